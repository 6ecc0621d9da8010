"""What the verbs on a trained model share: the model, and the images to use it on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from latentforge.errors import InputError

if TYPE_CHECKING:
    from latentforge.data.dataset import Whole


def image_files(about: str) -> Callable:
    """Options that name images and how they are read; `about` says what --data is for."""

    def decorate(function: Callable) -> Callable:
        for decorator in reversed([
            click.option("--data", help=about),
            click.option("--data-dir", help="where named sets are looked for first"),
            click.option("--image-size", help="crop and resize other images: 64 or 30x46"),
            click.option("--channels", type=click.IntRange(1, 4), help="force the channels of other images"),
            click.option("--skip-bad", is_flag=True, help="leave out files that cannot be read instead of stopping"),
        ]):  # fmt: skip
            function = decorator(function)
        return function

    return decorate


def image_source(function: Callable) -> Callable:
    """Options that choose images: the run's own held-out ones, or others."""
    split = click.option("--split", type=click.Choice(["train", "validation", "test", "all"]), default="test",
                         help="which images  [test; all of a folder or file, in its order, uncut]")  # fmt: skip
    return image_files("other images: named set, folder or file  [the run's own data]")(split(function))


def open_given(run: Path, model: Any, data: str | None, split: str, *, told: bool = True, **how: Any) -> Whole:
    """What a verb is to work on: a split of the run's own data, or of the set named with --data. A folder or file given with
    --data is taken whole unless a --split of it is asked for. Where the model is `told` their classes, classes are those
    of the model that have the same name."""
    from latentforge.data.dataset import Whole
    from latentforge.data.named import SETS

    asked = click.get_current_context().get_parameter_source("split") is not ParameterSource.DEFAULT
    if data is not None and data not in SETS and (split == "all" or not asked):
        given = open_all(model, data, **how)
    else:
        dataset = open_dataset(run, model, data, **how)
        images = part_of(dataset, split)
        given = Whole(images, [str(i) for i in range(len(images))], dataset.classes, [])
    if told and data is not None:
        given = given._replace(images=as_told(model, given.images, given.classes, data))
    return given


def open_images(run: Path, model: Any, **source: Any) -> Any:
    """The images of `open_given` (`Images`)."""
    return open_given(run, model, **source).images


def open_dataset(run: Path, model: Any, data: str | None, **how: Any) -> Any:
    """The run's own data set, or the one at `data` (see `open_cut`), checked against the model."""
    from latentforge.tasks.encode import need_shape

    dataset = data_of(run) if data is None else open_cut(run, model, data, **how)
    if dataset is None:
        raise InputError(f"{run} is an exported model and carries no data; name images with --data.")
    need_shape(model, dataset.image_shape, dataset.source)
    return dataset


def open_cut(run: Path, model: Any, data: str, others: bool = True, **how: Any) -> Any:
    """The data set at `data`, cut and read as the run has it where it is the run's own and unchanged. Says so where it is not
    cut as for the training of the model: of own images in the place of then, or of any where no `others` make sense."""
    from latentforge.data import open_data
    from latentforge.data.named import SETS

    own = is_own(run, data)
    if own:
        with suppress(InputError):  # images that have changed since are cut anew, which the note below says
            return data_of(run)
    with asking_own_size(model):
        dataset = open_data(data, **how)
    say(dataset.notes)
    unknown = model.data_fingerprint is None or (others and (data in SETS or dataset.source != model.trained_on))
    if (own or not unknown) and dataset.fingerprint != model.data_fingerprint:
        say([
            f"{dataset.source}: not the images that the model was trained on, as they were cut and labelled then; some that "
            "are held out here may have been trained on"
        ])  # fmt: skip
    return dataset


def is_own(run: Path, data: str | None) -> bool:
    """Whether `data` is the folder or file that a run was trained on."""
    from latentforge.data.named import SETS
    from latentforge.run import Run

    if not data or data in SETS or not (run / "config.yaml").is_file():
        return False
    return Run.open(run).config["data"]["source"] == os.path.realpath(os.path.expanduser(data))


def open_all(model: Any, data: str, **how: Any) -> Whole:
    """All images of a folder or file in its order, checked against the model."""
    from latentforge.tasks.encode import need_shape

    with asking_own_size(model):
        given = read_all(data, **how)
    need_shape(model, given.images.shape, data)
    return given


@contextmanager
def asking_own_size(model: Any) -> Iterator[None]:
    """Refuses images of several sizes with the flags that make them the model's."""
    from latentforge.data.decode import ManySizes
    from latentforge.tasks.encode import own_size

    try:
        yield
    except ManySizes as error:
        raise InputError(f"{error.what}; the model takes one size: add {own_size(model)}.") from None


def open_fitting(model: Any, data: Path, skip_bad: bool) -> Any:
    """All images of a file or folder (`Images`), cropped at the centre and resized to the model's. What folders are named is
    told to a model that is told classes where all of them are its own."""
    from latentforge.data import Images

    c, h, w = model.image_shape
    given = read_all(str(data), image_size=(h, w), channels=c, skip_bad=skip_bad)
    if given.classes is not None and not set(given.classes) <= set(names_of(model)):
        return Images(given.images.pixels, None, given.images.device)
    return as_told(model, given.images, given.classes, str(data))


def read_all(data: str, **how: Any) -> Whole:
    """All images of a file or folder, as they are."""
    from latentforge.data.dataset import open_whole

    found = open_whole(data, **how)
    say(found.notes)
    return found


def say(notes: list[str]) -> None:
    """What the user should know of how images were read."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def names_of(model: Any) -> list[str]:
    """What the classes are called that the model is told, numbers where they have no names; none where it is told none."""
    known = model.condition is not None and model.condition.classes
    return (model.classes or [str(k) for k in range(model.condition.size)]) if known else []


def as_told(model: Any, images: Any, theirs: list[str] | None, data: str) -> Any:
    """Images whose labels are the classes of the same names that the model was trained on. As they are where the model is told
    no classes, or they have numbers alone. InputError for a class that the model does not know."""
    import torch

    from latentforge.data import Images

    ours = names_of(model)
    if not ours or images.labels is None or theirs is None or theirs == ours:
        return images
    number = {name: k for k, name in reversed([*enumerate(ours)])}  # the first of those that are called alike
    strange = [name for name in theirs if name not in number]
    if strange:
        raise InputError(
            f"{data}: the model is conditioned on classes, and has none called {strange[0]}; name the folders as in "
            f"training: {', '.join(ours[:5])}{' ...' if len(ours) > 5 else ''}."
        )
    mine = torch.tensor([number[name] for name in theirs])
    labels = images.labels.cpu()
    return Images(images.pixels, torch.where(labels < 0, -1, mine[labels.clamp(min=0)]), images.device)


def part_of(dataset: Any, split: str) -> Any:
    """One split of a data set, or all of it."""
    from latentforge.data.batch import joined

    return dataset.split(split) if split != "all" else joined([dataset.train, dataset.validation, dataset.test])


def data_of(run: Path) -> Any:
    """The data set of a run; None for an exported model."""
    from latentforge import api
    from latentforge.run import Run

    return api.data_of(Run.open(run)) if (run / "config.yaml").is_file() else None


def training_data(run: Path, model: Any, data: str | None, split: str = "", **how: Any) -> Any:
    """The data set a run was trained on, checked against the model; of an exported model, which carries none, `data`."""
    own = (run / "config.yaml").is_file() and not is_own(run, data)
    return open_dataset(run, model, None if own else data, **how)


def reference(run: Path, model: Any, normal: str | None, source: dict[str, Any]) -> tuple[Any, Any]:
    """Images that are normal to a model and normal ones that it was not trained on: the run's own, or nine tenths and a
    tenth of those at `normal`; all of these and None where a tenth is one image."""
    from latentforge.data.batch import hold_out

    if normal is not None:
        how = {k: v for k, v in source.items() if k not in ("data", "split")}
        images = open_all(model, normal, **how).images
        if len(images) < 4:
            raise InputError(
                f"{normal}: {len(images)} normal images are too few to know what is normal; give at least 4."
            )
        usual, held = hold_out(images, 0)
        return (usual, held) if len(held) > 1 else (images, None)
    try:
        data = data_of(run)
    except InputError as error:
        raise InputError(f"{error} Or name other normal images with --normal.") from None
    if data is None:
        raise InputError(f"{run} is an exported model and carries no data; name normal images with --normal.")
    return data.train, data.validation
