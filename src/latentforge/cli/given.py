"""Images for verbs that say something of each one: all of a folder or file in its own order, with names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from latentforge.cli.inputs import open_all, open_dataset, part_of
from latentforge.errors import InputError


@dataclass
class Given:
    """`images` (latentforge.data.Images), their names, and the names of their classes where they have any."""

    images: Any
    names: list[str]
    classes: list[str] | None


def open_given(
    run: Path, model: Any, data: str | None, data_dir: str | None, image_size: str | None, channels: int | None, split: str
) -> Given:  # fmt: skip
    """What a verb is to judge. A folder or file given with --data is taken whole unless a --split of it is asked for."""
    from latentforge.data.named import SETS

    asked = click.get_current_context().get_parameter_source("split") is not ParameterSource.DEFAULT
    if data is not None and data not in SETS and (split == "all" or not asked):
        return Given(*open_all(model, data, data_dir, image_size, channels))
    dataset = open_dataset(run, model, data, data_dir, image_size, channels)
    images = part_of(dataset, split)
    return Given(images, [str(i) for i in range(len(images))], dataset.classes)


def reference(run: Path, model: Any, normal: str | None, source: dict[str, Any]) -> tuple[Any, Any]:
    """Images that are normal to a model and normal ones that it was not trained on: the run's own, or nine tenths and a
    tenth of those at `normal`."""
    from latentforge.tasks.estimator import hold_out

    if normal is not None:
        size = {k: source[k] for k in ("data_dir", "image_size", "channels")}
        images = open_all(model, normal, **size)[0]
        if len(images) < 4:
            raise InputError(
                f"{normal}: {len(images)} normal images are too few to know what is normal; give at least 4."
            )
        return hold_out(images, 0)
    try:
        data = data_of(run)
    except InputError as error:
        raise InputError(f"{error} Or name other normal images with --normal.") from None
    if data is None:
        raise InputError(f"{run} is an exported model and carries no data; name normal images with --normal.")
    return data.train, data.validation


def data_of(run: Path) -> Any:
    """The data set of a run; None for an exported model."""
    from latentforge import api
    from latentforge.run import Run

    return api.data_of(Run.open(run)) if (run / "config.yaml").is_file() else None
