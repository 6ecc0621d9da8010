"""`latentforge train MODEL`: a command per model, its flags those of the data, the trainer and the model."""

from __future__ import annotations

import difflib
import itertools
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from latentforge import files, presets, registry
from latentforge.cli.flags import Sectioned, option, options
from latentforge.errors import InputError
from latentforge.files import quoted
from latentforge.limits import BUDGET


class Models(click.Group):
    """`train` with the models as its commands; without a model, `--preset NAME` finds it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            named = [(a, b) for a, b in itertools.pairwise([*args, ""]) if a.partition("=")[0] == "--preset"]
            if not named:
                hint = " Did you mean --preset?" if difflib.get_close_matches(args[0], ["--preset"]) else ""
                raise click.UsageError(
                    f"name the model before its flags, as in '{ctx.command_path} vae {args[0]} ...'.{hint}", ctx
                )
            flag, following = named[0]
            args = [presets.load(flag.partition("=")[2] or following)["model"], *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return registry.list_models()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Models"):
            formatter.write_dl([(k, v.summary) for k, v in registry.MODELS.items()])

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        return train_command(name)


def data_options(told: bool = False) -> list[click.Option]:
    """The flags of `open_data`; `told` adds those for models that learn from labels."""
    rows: list[tuple[str, Any, Any, str]] = [
        ("data", str, "mnist-5k", "named set, folder of images, .npz, .npy or .parquet file"),
        ("data_dir", str, None, "where named sets are looked for first"),
        ("image_size", str, None, "crop to this aspect and resize: 64 or 30x46 (height x width)"),
        ("channels", int, None, "force 1 (grey), 2, 3 (RGB) or 4 (RGBA) channels"),
        ("skip_bad", bool, False, "go on without images that cannot be read"),
        ("data_seed", int, 0, "seed of the 80/10/10 split of own images"),
    ]
    if told:
        rows += [
            ("labels", int, None, "hide all but this many training labels, balanced over the classes"),
            ("labels_seed", int, 0, "seed of which labels are kept"),
        ]
    return [option(*row, "Data") for row in rows]


def train_command(name: str) -> click.Command:
    """The command that trains the model `name`."""
    cls = registry.model_class(name)
    from latentforge.api import NOT_OPTIONS, keeping_images
    from latentforge.train import Trainer

    reading = data_options("num_classes" in registry.arguments(cls))
    trainer = options(Trainer, "Training", NOT_OPTIONS)
    model = options(cls, f"Model ({name})", {"image_shape"})
    run = [
        option("out", str, None, "run directory; default: runs/MODEL, numbered where that exists", "Run"),
        option("preset", str, None, "start from a preset, for example mnist/vae; flags override it", "Run"),
        option("small", bool, False, "the preset's small variant", "Run"),
        option("dry_run", bool, False, "print the resolved settings and stop", "Run"),
        option("quiet", bool, False, "no progress", "Run"),
    ]

    def go(**typed: Any) -> None:
        given = {k: v for k, v in typed.items() if v is not None}
        if "small" in given and "preset" not in given:
            raise InputError("--small is a preset's small variant; name one with --preset.")
        if not given.get("out", "runs").strip():
            raise InputError("--out is empty; give the name of a directory.")
        start = presets.load(given["preset"], given.get("small", False)) if "preset" in given else {}
        if start and start["model"] != name:
            raise InputError(
                f"preset {given['preset']} is for {start['model']}: latentforge train {start['model']} ..."
            )

        def pick(rows: list[click.Option], base: dict[str, Any]) -> dict[str, Any]:
            return {**base, **{o.name: given[o.name] for o in rows if o.name in given}}  # type: ignore[index]

        base = start.get("train", {})
        if set(BUDGET) & set(given):
            base = {k: v for k, v in base.items() if k not in BUDGET}
        data = {"data": "mnist-5k", **start.get("data", {})} | pick(reading, {})
        source = data.pop("data")
        if "data_seed" in data:
            data["seed"] = data.pop("data_seed")
        with keeping_images():  # for the page
            train(name, source, data, pick(model, start.get("arguments", {})), pick(trainer, base), given)

    row = registry.entry(name)
    return Sectioned(name, params=[*reading, *trainer, *model, *run], callback=go, help=f"{row.summary}\n\n{row.paper}")


def train(name: str, source: str, data: dict, arguments: dict, settings: dict, given: dict[str, Any]) -> None:
    """Train, write the run and its report, say where it is."""
    from latentforge.api import fit
    from latentforge.distributed import may_restart, rank
    from latentforge.report.page import write_report
    from latentforge.report.settings import draws
    from latentforge.run import Run

    if given.get("dry_run"):
        dry_run(name, source, data, arguments, settings, given.get("preset"))
        return
    if may_restart() and "out" not in given:
        raise InputError("torchrun may start this again, which must then find its run: name its directory with --out.")
    first = not Path("runs").exists()
    if "out" in given:
        out = files.place(given["out"])
    else:  # one process writes, and claims the place
        out = free_directory(name) if rank() == 0 else Path("runs") / name
    try:
        fit(name, source, out=out, data_options=data, model_options=arguments, _preset=given.get("preset"),
            quiet=given.get("quiet", False), **settings)  # fmt: skip
    except BaseException:
        if "out" not in given and rank() == 0:
            with suppress(OSError):
                out.rmdir()  # where nothing came of it
                if first:
                    out.parent.rmdir()
        raise
    if rank() > 0:
        return
    places = f"run       {out}\nmodel     {out / 'model'}\npictures  {out / 'previews'}"
    print(places, flush=True)  # whatever becomes of the page
    print(f"report    {write_report(Run.open(out))}")
    place = quoted(out)
    use = f"sample {place} -n 64" if draws(Run.open(out)) else f"reconstruct {place}"
    if registry.entry(name).kind == "restorer":
        use = f"restore {place} --in IMAGES --out {quoted(out / 'restored')}"
    classes = [f"classify {place}"] if hasattr(registry.model_class(name), "classify") else []
    for command in (use, *classes, f"evaluate {place}"):
        print(f"next      latentforge {command}", file=sys.stderr)


def dry_run(name: str, source: str, data: dict, arguments: dict, settings: dict, preset: str | None) -> None:
    """Print the config a run would have."""
    import yaml

    from latentforge.api import config_of, prepare

    trainer = prepare(name, source, data, arguments, settings, quiet=True)
    config = config_of(trainer, source, data, settings, preset)
    size = {k: sum(p.numel() for m in ms for p in m.parameters()) for k, ms in trainer.model.players().items()}
    print(yaml.safe_dump(config | {"parameters": size}, sort_keys=False), end="")


def free_directory(name: str) -> Path:
    """runs/NAME, or runs/NAME-2, -3 ... where that exists: made at once, so that no other training takes it."""
    for i in itertools.count(1):
        path = Path("runs") / (name if i == 1 else f"{name}-{i}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}); choose another place with --out.") from None
        return path
    raise AssertionError("there is always a next number")


command = Models(
    "train",
    subcommand_metavar="MODEL [FLAGS]...",
    help="Train a model on images: latentforge train MODEL --data FOLDER --minutes 10. Every model has its own flags: "
    "latentforge train MODEL --help. A preset names its model: latentforge train --preset mnist/vae; "
    "`latentforge models --presets` lists them.",
)
