"""The settings of a run, each beside its default, and the commands that go on from it."""

from __future__ import annotations

import json
from contextlib import suppress
from inspect import getattr_static
from typing import Any

from latentforge import files, registry
from latentforge.report.words import show
from latentforge.run import Run

RESOLVED = {"device", "precision"}  # written down as what `auto` came to, so never a change by the user


def model_settings(model: dict[str, Any]) -> list[dict[str, Any]]:
    values = {k: v for k, v in model.items() if k != "name"}
    if model["name"] not in registry.MODELS:
        return against_defaults(values, {}, {})
    cls = registry.model_class(model["name"])
    defaults = {k: p.default for k, p in registry.arguments(cls).items() if p.default is not p.empty}
    free = {
        k for k, v in defaults.items() if v in (None, "auto")
    }  # follow from the data, and what they came to is kept
    return against_defaults(values, {k: v for k, v in defaults.items() if k not in free}, registry.argument_help(cls))


def train_settings(options: dict[str, Any], model: str) -> list[dict[str, Any]]:
    from latentforge.api import trainer_options
    from latentforge.game import Game
    from latentforge.train import Trainer

    cls = registry.model_class(model) if model in registry.MODELS else Game
    free = set(RESOLVED)
    if cls is not Game and any(p.default is None for p in registry.arguments(cls).values()):
        free.add("batch_size")  # such families follow the size of the images
    if getattr_static(cls, "suited_to") is not getattr_static(Game, "suited_to"):
        free.add("schedule")  # and such how many there are
    own = {"batch_size": cls.batch_size, "schedule": cls.schedule}
    defaults = {k: v for k, v in (trainer_options() | own).items() if k not in free}
    return against_defaults(options, defaults, registry.argument_help(Trainer))


def against_defaults(values: dict[str, Any], defaults: dict[str, Any], helps: dict[str, str]) -> list[dict[str, Any]]:
    """A row per setting, marked where it differs from its default."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
    return [{"name": k, "value": show(v), "changed": k in plain and v != plain[k], "help": helps.get(k, "")}
            for k, v in values.items()]  # fmt: skip


def data_facts(run: Run) -> dict[str, Any]:
    images = {k: v for k, v in (run.config.get("images") or {}).items() if k != "notes"}
    return run.config["data"] | images


def machine(run: Run) -> dict[str, Any]:
    return (run.config.get("machine") or {}) | {k: run.config["train"].get(k) for k in ("device", "precision")}


def commands(run: Run) -> list[tuple[str, str]]:
    """(what for, command) with the run's path as it was given; only what this run can do."""
    path, quoted = files.quoted(run.path), repr(str(run.path))
    memory = run.config["data"]["source"] == "memory"  # such a run goes on from Python only
    why = "Train on, to a larger total" if run.finished else "Continue where it stopped"
    resume = ("import latentforge as lf; " if memory else "") + run.goes_on_by(longer=run.finished)
    if not run.finished and not any((run.path / "checkpoints").glob("*.safetensors")):
        return [(why, resume)]
    known = registry.MODELS.get(run.config["model"]["name"])  # a model from outside the package is not in it
    if known is not None and known.kind == "restorer":
        inside = files.quoted(run.path / "restored")  # in a run it is never taken for data
        return [
            ("Restore the images of a folder", f"latentforge restore {path} --in IMAGES --out {inside}"),
            (why, resume),
            ("Use it in Python", f"import latentforge as lf; images = lf.restore(lf.load({quoted}), IMAGES)"),
        ]
    if not draws(run):
        return [
            (why, resume),
            *([] if memory else [("Measure it on the test images", f"latentforge evaluate {path}")]),
            ("Use it in Python", f"import latentforge as lf; images = lf.load({quoted}).reconstruct(IMAGES)"),
        ]
    return [
        ("Draw 64 new images", f"latentforge sample {path} -n 64"),
        (why, resume),
        *([] if memory else [("Measure it on the test images", f"latentforge evaluate {path}")]),
        ("Use it in Python", f"import latentforge as lf; images = lf.load({quoted}).sample(64)"),
    ]


def draws(run: Run) -> bool:
    """Whether samples can be drawn of it: from a prior, or a sampler that is fitted by now."""
    name = run.config["model"]["name"]
    if name not in registry.MODELS or registry.model_class(name).has_prior:
        return True
    with suppress(OSError, ValueError, AttributeError):  # unfinished, or damaged
        return json.loads((run.path / "model" / "config.json").read_text(encoding="utf-8")).get("sampler") is not None
    return False
