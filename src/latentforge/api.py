"""The Python face: `fit` a model on data, `resume` a run. The command line calls the same functions."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch

from latentforge import distributed, registry
from latentforge.checkpoint import take_up
from latentforge.clock import mix, seeded
from latentforge.data import Dataset, named, open_data
from latentforge.data.decode import reason, silence
from latentforge.data.together import open_together
from latentforge.errors import Collapsed, InputError, RunError, suggest
from latentforge.files import place, quoted
from latentforge.game import Game
from latentforge.journal import summary_writer
from latentforge.limits import BUDGET, as_typed, check
from latentforge.run import Run
from latentforge.saving import load, need_alike, other_version, pick_device, plain
from latentforge.train import Trainer

LEAST = 0.2  # of the budget, for another attempt after a collapse
NOT_OPTIONS = {"model", "data", "run", "quiet"}  # of the trainer's arguments: they are given otherwise
KEPT: dict[Path, Dataset] | None = None  # images of the runs trained inside `keeping_images`, by the run's path


@contextmanager
def keeping_images() -> Iterator[None]:
    """Inside the block `data_of` has the images that a run has just been trained on, and does not read them again."""
    global KEPT
    KEPT = {}
    try:
        yield
    finally:
        KEPT = None


def trainer_options() -> dict[str, Any]:
    """The trainer's options with their defaults."""
    return {k: p.default for k, p in registry.arguments(Trainer).items() if k not in NOT_OPTIONS}


def create_for(name: str, dataset: Dataset, seed: int, arguments: dict[str, Any]) -> Game:
    """A model for the images of a data set, its weights drawn from the seed."""
    if "image_shape" in arguments:
        raise InputError("image_shape follows from the data; use image_size to resize the images.")
    arguments = registry.model_class(name).suited_to(dataset.train, arguments) | told_by(name, dataset) | arguments
    with seeded(mix(seed, 0x1217)):
        return registry.create(name, image_shape=dataset.image_shape, **arguments)


def told_by(name: str, dataset: Dataset) -> dict[str, Any]:
    """The arguments of a conditional model that follow from the data's labels; none for other models."""
    known = registry.arguments(registry.model_class(name))
    labels = dataset.train.labels
    if "num_classes" not in known:
        return {}
    if labels is None:
        raise InputError(
            f"{name} is conditioned on labels, and {dataset.source} has none; use folders named by class, or an array of "
            "labels."
        )
    if not labels.is_floating_point():
        return {"num_classes": dataset.num_classes}
    if "descriptor_mean" not in known:
        raise InputError(f"{name} is conditioned on classes, and {dataset.source} has descriptors; train cvae on them.")
    stddev, mean = torch.std_mean(labels.double(), 0)
    return {"descriptor_mean": tuple(mean.tolist()), "descriptor_stddev": tuple(stddev.clamp(min=1e-6).tolist())}


def prepare(
    model: Game | str,
    data: Any,
    data_options: dict[str, Any],
    model_options: dict[str, Any],
    options: dict[str, Any],
    quiet: bool = False,
) -> Trainer:
    """A trainer that has written nothing yet."""
    need_options(model, options)
    if "device" in options:
        options["device"] = str(options["device"])  # or a torch.device
    check(Trainer, options)
    if options.get("on_collapse") == "restart" and not isinstance(model, str):
        raise InputError("on_collapse restart trains new models: give the model by name, with its model_options.")
    if options.get("tensorboard"):
        summary_writer()  # before anything is written
    need_device(options.get("device", "auto"))
    with silence(quiet):
        dataset = open_together(data, **data_options)
    if isinstance(model, str):
        model = create_for(model, dataset, options.get("seed", 0), model_options)
        need_effect(model, model_options)
    elif model_options:
        raise InputError("model_options are for a model given by name; this one is built already.")
    need_same_labels(model, dataset)
    if tuple(model.image_shape) != dataset.image_shape:
        raise InputError(
            f"the model is for images {tuple(model.image_shape)}, the data has {dataset.image_shape} (C, H, W); "
            "create the model with the data's image_shape, or resize the data with image_size."
        )
    return Trainer(model, dataset, quiet=quiet, **options)


def need_device(device: Any) -> None:
    """InputError where the device cannot be used, before images are read, which may take hours."""
    distributed.local_device(pick_device(str(device)), str(device) == "auto")


def need_options(model: Game | str, options: dict[str, Any]) -> None:
    """InputError for what is no option of the trainer: where it belongs, or which one is meant."""
    known = trainer_options()
    for name in (k for k in options if k not in known):
        if name in registry.arguments(open_data):
            raise InputError(f"{name} is of the data; give it as data_options={{'{name}': ...}}.")
        own = registry.arguments(registry.model_class(model) if isinstance(model, str) else type(model))
        if name in own and isinstance(model, str):
            raise InputError(f"{name} is of the model; give it as model_options={{'{name}': ...}}.")
        if name in own:
            raise InputError(f"{name} is of the model, which is built already; give it where that is created.")
        raise InputError(f"there is no setting '{name}'.{suggest(name, known)}")


def need_effect(model: Game, arguments: dict[str, Any]) -> None:
    """InputError for a size without effect, as `width` on dense networks."""
    known = registry.arguments(type(model))
    for key in [k for k in arguments if k in registry.SIZES and model.args[k] != known[k].default]:
        if not registry.matters(model, key):
            nets = "".join(f" --{k.replace('_', '-')} {v}" for k, v in model.args.items() if k in ("net", "critic_net"))
            raise InputError(
                f"{model.name}: --{key.replace('_', '-')} {as_typed(arguments[key])} changes nothing"
                f"{f' with{nets}; choose other networks or' if nets else ';'} leave it out."
            )


def need_same_labels(model: Game, dataset: Dataset) -> None:
    """InputError where a model that is told labels is told others than these images have."""
    told = told_by(model.name, dataset) if getattr(model, "name", None) in registry.MODELS else {}
    if not told:
        return
    own, wanted = (len(a.get("descriptor_mean", ())) for a in (model.args, told))
    if told.get("num_classes", 0) > model.args["num_classes"] or own != wanted:
        made = f"{own} descriptors" if own else f"{model.args['num_classes']} classes"
        has = f"{wanted} descriptors" if wanted else f"{told['num_classes']} classes"
        needed = " and ".join(told)
        raise InputError(f"the model is for {made}, the data has {has}; create the model with their {needed}.")


def fit(
    model: Game | str,
    data: Any,
    *,
    out: str | Path | None = None,
    quiet: bool = False,
    data_options: dict[str, Any] | None = None,
    model_options: dict[str, Any] | None = None,
    _preset: str | None = None,
    **options: Any,
) -> Game:
    """Train `model` on `data` and return it with its averaged weights, in eval mode.

    model: a `Game`, or a registered name (then `model_options` are its arguments).
    data: a name, folder, file, array, (images, labels) or `Dataset`; `data_options` go to `open_data`.
    out: run directory to write; without it nothing is written.
    options: those of `Trainer`, for example `minutes=5` or `epochs=10, lr=1e-4`. (A preset's are in what
      `latentforge.presets.load` returns. `_preset` is the command line's: a name that the run carries, of which nothing is
      taken.)

    `seed` is of all that is random but the first weights of a model that is given: call torch.manual_seed before
    `create` to draw those again.

    Where `torchrun` starts its processes again after one died, a run that `out` holds already goes on.

    InputError for bad input; RunError where the run fails; Interrupted where it is stopped by Ctrl-C or SIGTERM.
    """
    if options.get("tensorboard") is True and out is None:
        raise InputError("tensorboard writes into a run directory; give out as well.")
    if options.get("on_collapse", "warn") != "warn" and out is None:
        raise InputError("on_collapse looks at what a run directory keeps of the samples; give out as well.")
    if out is not None and distributed.rank() == 0 and distributed.attempt() == 0:
        Run.need_free(out)  # before the data are read
    kept = "its run could not be opened again"
    if out is not None and not isinstance(model, str):  # on all processes, before the trainer has its way with it
        need_alike(model, kept)
    trainer = prepare(model, data, data_options or {}, model_options or {}, options, quiet)
    if out is not None and isinstance(model, str) and model not in registry.OURS:
        need_alike(trainer.model, kept)
    if out is not None and distributed.begun(out):
        need_same_run(Run.open(out), config_of(trainer, data, data_options or {}, options, _preset))
        dataset = trainer.data
        del trainer  # or all that it has on a GPU would be there twice
        return resume(out, dataset, quiet=quiet)
    if out is not None and trainer.rank == 0:
        trainer.run = Run.create(out, config_of(trainer, data, data_options or {}, options, _preset))
    for note in trainer.data.notes:
        trainer.journal.display.note(note)
    with alone(trainer.run):
        return to_the_end(trainer, options)


def need_same_run(run: Run, config: dict[str, Any]) -> None:
    """InputError unless the run was begun with this configuration; seed and budget change where it starts anew after a
    collapse."""
    changes = {"seed", *BUDGET}
    for part in ("model", "data", "train"):
        ours, theirs = ({k: v for k, v in c.get(part, {}).items() if k not in changes} for c in (config, run.config))
        if ours != theirs:
            raise InputError(f"{run.path} holds another run ({part} differs); choose another --out.")


def alone(run: Run | None):
    """That no other process trains the run, seen to by the first of several that train it together."""
    return nullcontext() if run is None or distributed.rank() else run.held()


def to_the_end(trainer: Trainer, options: dict[str, Any]) -> Game:
    """Train; where the run is to start again at a collapse, with other seeds, each time with what is left of the budget.
    RunError once less than `LEAST` of it is left."""
    whole = trainer.examples or trainer.minutes or 0
    if KEPT is not None and trainer.run is not None:
        KEPT[trainer.run.path.resolve()] = trainer.data
    while True:
        try:
            return trainer.fit()
        except Collapsed as collapse:
            t = trainer  # its budget is what the attempts before it left
            left = t.examples - t.clocks[0].examples if t.examples else (t.minutes or 0) - t.seconds / 60
            if left < LEAST * whole:
                raise RunError(f"{collapse}; too little of the budget is left to start again.") from None
            trainer = next_attempt(trainer, options, left)
            trainer.journal.display.note(f"{collapse.args[0].split(':')[0]}: starting again with seed {trainer.seed}")


def next_attempt(old: Trainer, options: dict[str, Any], left: float) -> Trainer:
    """A fresh trainer with the next seed and the budget that is left. What the run wrote moves to attempts/N."""
    budget: dict[str, Any] = dict.fromkeys(BUDGET)
    budget |= {"examples": int(left)} if old.examples else {"minutes": left}
    options = options | budget | {"seed": old.seed + 1}
    model = create_for(
        old.model.name, old.data, old.seed + 1, {k: v for k, v in old.model.args.items() if k != "image_shape"}
    )
    if old.run is not None and old.rank == 0:
        old.run.set_aside({**budget, "seed": old.seed + 1})
    old.let_go()
    return Trainer(model, old.data, run=old.run, quiet=old.journal.display.quiet, **options)


def config_of(
    trainer: Trainer, source: Any, data_options: dict[str, Any], options: dict[str, Any], preset: str | None
) -> dict[str, Any]:
    """The resolved configuration: what `auto` came to is written down and reused by `resume`."""
    model, dataset = trainer.model, trainer.data
    resolved = trainer_options() | options | {"device": kept_device(trainer, options), "precision": trainer.precision}
    resolved |= {"batch_size": trainer.batch_size, "schedule": trainer.schedule}
    resolved |= {"examples": trainer.examples, "minutes": trainer.minutes, "epochs": None}
    if isinstance(source, str) and source in named.SETS:  # a folder of that name here changes nothing
        where = source
    elif isinstance(source, str | Path):
        where = str(Path(source).expanduser().resolve())
    else:
        where = "memory"
    read = {k: str(place(v).resolve()) if k == "data_dir" and v else v for k, v in data_options.items()}
    return {
        "preset": preset,
        "model": {"name": model.name, **plain(model.args)},
        **registry.home(model),
        "data": {"source": where, **plain(read)},
        "images": {
            "from": dataset.source, "shape": list(dataset.image_shape),
            "classes": dataset.classes, "descriptors": dataset.descriptors,
            "train": len(dataset.train), "validation": len(dataset.validation), "test": len(dataset.test),
            "fingerprint": dataset.fingerprint, "notes": dataset.notes,
        },
        "train": plain(resolved),
        "machine": {
            "python": platform.python_version(), "torch": str(torch.__version__), "processor": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }  # fmt: skip


def data_of(run: Run, data: Any = None, read: Callable[..., Dataset] = open_data) -> Dataset:
    """The data set a run was trained on, by `read`; `data` where it was given from memory. InputError where the images
    have changed: their splits would mix what was trained on with what was held out."""
    if data is None and KEPT and run.path.resolve() in KEPT:
        return KEPT[run.path.resolve()]
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in run.config["data"].items()}
    source = options.pop("source")
    if source == "memory" and data is None:
        raise InputError(f"{run.path} was trained on arrays in memory; pass them again as data.")
    check(open_data, options, f"{run.path / 'config.yaml'}, data: ")
    kinds = (PurePosixPath, PureWindowsPath)  # the run may come from another system
    if data is None and any(kind(source).is_absolute() for kind in kinds) and not Path(source).exists():
        raise InputError(
            f"{run.path} was trained on {source}, which is not there; put it back, or correct data: source in "
            f"{run.path / 'config.yaml'}."
        )
    dataset = read(source if data is None else data, **options)
    known = run.config.get("images") or {}
    if dataset.fingerprint != known.get("fingerprint", dataset.fingerprint):
        splits = ("train", "validation", "test")
        had = "+".join(str(known.get(s)) for s in splits)
        has = "+".join(str(len(dataset.split(s))) for s in splits)
        change = f" ({had} then, {has} now)" if had != has else ""
        raise InputError(
            f"{dataset.source}: the images are not those that {run.path} was trained on{change}; restore them or train "
            "anew."
        )
    return dataset


def kept_device(trainer: Trainer, options: dict[str, Any]) -> str:
    """What `resume` is to use: a device that was named by number, else the kind of the one in use."""
    asked = str(options.get("device", ""))
    return asked if ":" in asked else trainer.device.type


def resume(
    path: str | Path, data: Any = None, *, quiet: bool = False, device: str | None = None, **budget: Any
) -> Game:  # fmt: skip
    """Continue a run from its latest checkpoint to its budget; `epochs`, `examples` or `minutes` set a new total, `device`
    one that the run was not begun on. A finished run without a new total is loaded and left as it is.

    data: the images again, of a run on arrays in memory.
    InputError where there is no run, its images have changed, or the new total is spent; RunError where it fails.
    """
    for name in budget:
        if name not in BUDGET:
            raise InputError(f"resume changes the budget alone, not '{name}'; give one of {', '.join(BUDGET)}.")
    run = Run.open(path)
    with alone(run):
        if run.finished and all(v is None for v in budget.values()):
            model = load(run.path)
            return model.to(pick_device(device)) if device else model
        return go_on(run, data, quiet, device, budget)


def go_on(run: Run, data: Any, quiet: bool, device: str | None, budget: dict[str, Any]) -> Game:
    """Take up the latest checkpoint of a run and train to the end of its budget."""
    if file := min(run.path.glob("*.lfz"), default=None):
        raise InputError(
            f"{file} can be opened only with the model that training on replaces; keep that with 'latentforge export "
            f"{quoted(run.path)} DIR' and move the file out of the run."
        )
    file = run.path / "config.yaml"
    settings = {k: v for k, v in run.config["model"].items() if k not in ("name", "image_shape")}
    registry.entry(run.config["model"]["name"], run.config.get("class"))
    options = trainer_options() | run.config["train"]
    if any(v is not None for v in budget.values()):
        options |= dict.fromkeys(BUDGET) | budget
    if not distributed.alone_here():  # the GPU that one process had is not for all
        options["device"] = str(options["device"]).partition(":")[0]
    if device:
        changed = pick_device(str(device)).type != str(options["device"]).partition(":")[0]
        options |= {"device": str(device)} | ({"precision": "auto"} if changed else {})
    wrote = f"{file}{other_version(run.config)}"
    check(Trainer, options, f"{wrote}, train: ")
    need_device(options["device"])
    with silence(quiet):
        dataset = data_of(run, data, open_together)
    try:
        model = create_for(run.config["model"]["name"], dataset, options["seed"], settings)
    except InputError as error:
        raise InputError(f"{wrote}, model: {error}") from None
    trainer = Trainer(model, dataset, run=run, quiet=quiet, **options)
    found = run.load_checkpoint()
    if found is None and run.finished:
        raise InputError(f"{run.path} is finished and has no checkpoint to go on from; train anew with another --out.")
    if found is not None:
        tensors, state, damaged = found
        for name in damaged:
            trainer.journal.display.warn(f"checkpoint {name} cannot be read; going back to round {state['round']}")
            if trainer.rank == 0:  # or it would count among those that are kept
                (run.path / "checkpoints" / name).unlink(missing_ok=True)
        try:
            take_up(trainer, tensors, state)
        except InputError:
            raise
        except (RuntimeError, KeyError, TypeError, IndexError, ValueError) as error:
            raise InputError(
                f"{run.path}: the checkpoint does not fit {wrote} ({reason(error)}); restore that."
            ) from None
    if budget:
        extend(trainer, run)
    if trainer.rank == 0:
        trainer.journal.previewed = run.tidy(trainer.clocks[0].round if found else -1)
    return to_the_end(trainer, options)


def extend(trainer: Trainer, run: Run) -> None:
    """Make the new total the run's own, so that the next `resume` goes on to it. A finished run is unfinished again."""
    t = trainer.clocks[0]
    spent = t.examples >= trainer.examples if trainer.examples else trainer.seconds >= 60 * (trainer.minutes or 0)
    if trainer.model.converged:
        raise InputError(
            f"{run.path} has converged, which ends it; train anew with --patience 0 to spend a whole budget."
        )
    if spent:
        raise InputError(
            f"{run.path} has {t.examples:,} examples and {trainer.seconds / 60:.1f} minutes behind it already; "
            "a budget given to resume is a new total, give a larger one."
        )
    if trainer.rank == 0:
        run.reopen({"epochs": None, "examples": trainer.examples, "minutes": trainer.minutes})
