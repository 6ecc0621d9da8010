"""The Python face: `fit` a model on data, `resume` a run. The command line calls the same functions."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from latentforge import registry
from latentforge.clock import mix
from latentforge.data import Dataset, open_data
from latentforge.errors import InputError, suggest
from latentforge.game import Game
from latentforge.run import Run
from latentforge.saving import plain
from latentforge.train import Trainer

BUDGET = ("epochs", "examples", "minutes")


def trainer_options() -> dict[str, Any]:
    """The trainer's options with their defaults."""
    hidden = {"model", "data", "run", "quiet"}
    return {k: p.default for k, p in registry.arguments(Trainer).items() if k not in hidden}


def create_for(name: str, dataset: Dataset, seed: int, arguments: dict[str, Any]) -> Game:
    """A model for the images of a data set, its weights drawn from the seed."""
    if "image_shape" in arguments:
        raise InputError("image_shape follows from the data; use image_size to resize the images.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, 0x1217))
        try:
            return registry.create(name, image_shape=dataset.image_shape, **arguments)
        except InputError:
            raise
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{name} cannot be built for images of shape {dataset.image_shape}: {error}.") from None


def fit(
    model: Game | str,
    data: Any,
    *,
    out: str | Path | None = None,
    quiet: bool = False,
    data_options: dict[str, Any] | None = None,
    model_options: dict[str, Any] | None = None,
    preset: str | None = None,
    **options: Any,
) -> Game:
    """Train `model` on `data` and return it with its averaged weights, in eval mode.

    model: a `Game`, or a registered name (then `model_options` are its arguments).
    data: a name, folder, file, array, (images, labels) or `Dataset`; `data_options` go to `open_data`.
    out: run directory to write; without it nothing is written.
    options: those of `Trainer`, for example `minutes=5` or `epochs=10, lr=1e-4`.
    """
    known = trainer_options()
    for key in options:
        if key not in known:
            raise InputError(f"fit has no option '{key}'.{suggest(key, known)}")
    dataset = open_data(data, **(data_options or {}))
    if isinstance(model, str):
        model = create_for(model, dataset, options.get("seed", 0), model_options or {})
    if tuple(model.image_shape) != dataset.image_shape:
        raise InputError(
            f"the model is for images {tuple(model.image_shape)}, the data has {dataset.image_shape} (C, H, W); "
            "create the model with the data's image_shape, or resize the data with image_size."
        )
    trainer = Trainer(model, dataset, quiet=quiet, **options)
    if out is not None:
        trainer.run = Run.create(out, config_of(trainer, model, data, dataset, known | options, data_options, preset))
    for note in dataset.notes:
        trainer.journal.display.note(note)
    return trainer.fit()


def config_of(trainer, model: Game, source: Any, dataset: Dataset, options, data_options, preset) -> dict[str, Any]:
    """The resolved configuration: what `auto` came to is written down and reused by `resume`."""
    resolved = options | {"device": trainer.device.type, "precision": trainer.precision}
    resolved |= {"examples": trainer.examples, "minutes": trainer.minutes, "epochs": None}
    path = isinstance(source, str | Path) and Path(source).exists()
    where = str(Path(source).resolve()) if path else source if isinstance(source, str) else "memory"
    return {
        "preset": preset,
        "model": {"name": model.name, **plain(model.args)},
        "data": {"source": where, **plain({k: str(v) if isinstance(v, Path) else v for k, v in (data_options or {}).items()})},
        "images": {
            "from": dataset.source, "shape": list(dataset.image_shape), "classes": dataset.classes,
            "train": len(dataset.train), "validation": len(dataset.validation), "test": len(dataset.test),
            "fingerprint": dataset.fingerprint, "notes": dataset.notes,
        },
        "train": plain(resolved),
        "machine": {
            "python": platform.python_version(), "torch": str(torch.__version__), "processor": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }  # fmt: skip


def data_of(run: Run, data: Any = None) -> Dataset:
    """The data set a run was trained on; `data` where it was given from memory."""
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in run.config["data"].items()}
    source = options.pop("source")
    if source == "memory" and data is None:
        raise InputError(f"{run.path} was trained on arrays in memory; pass them again as data.")
    return open_data(source if data is None else data, **options)


def resume(path: str | Path, data: Any = None, *, quiet: bool = False, **budget: Any) -> Game:
    """Continue a run from its latest checkpoint to its budget; `epochs`, `examples` or `minutes` set a new total."""
    run = Run.open(path)
    dataset = data_of(run, data)
    settings = {k: v for k, v in run.config["model"].items() if k not in ("name", "image_shape")}
    options = dict(run.config["train"])
    if any(budget.get(k) is not None for k in BUDGET):
        options |= dict.fromkeys(BUDGET) | budget
    model = create_for(run.config["model"]["name"], dataset, options["seed"], settings)
    trainer = Trainer(model, dataset, run=run, quiet=quiet, **options)
    found = run.load_checkpoint()
    if found is not None:
        tensors, state, damaged = found
        for name in damaged:
            trainer.journal.display.warn(f"checkpoint {name} cannot be read; going back to round {state['round']}")
        trainer.restore(tensors, state)
        run.forget_after(state["round"])
    else:
        run.forget_after(-1)
    return trainer.fit()
