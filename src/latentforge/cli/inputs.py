"""What the verbs on a trained model share: the model, and the images to use it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from latentforge.errors import InputError


def image_source(function: Callable) -> Callable:
    """Options that choose images: the run's own held-out ones, or others."""
    for decorator in reversed([
        click.option("--data", help="other images: named set, folder or file  [the run's own data]"),
        click.option("--data-dir", help="where named sets are looked for first"),
        click.option("--image-size", help="crop and resize other images: 64 or 30x46"),
        click.option("--channels", type=click.IntRange(1, 4), help="force the channels of other images"),
        click.option("--split", type=click.Choice(["train", "validation", "test", "all"]), default="test",
                     help="which images; all of a folder or file are in its order, uncut  [test]"),
    ]):  # fmt: skip
        function = decorator(function)
    return function


def open_images(run: Path, model: Any, data: str | None, data_dir: str | None, image_size: str | None,
                channels: int | None, split: str) -> Any:  # fmt: skip
    """The chosen split (`Images`), checked against the model; all of a folder or file in its own order."""
    from latentforge.data.named import SETS

    if data is not None and data not in SETS and split == "all":
        return open_all(model, data, data_dir, image_size, channels)[0]
    return part_of(open_dataset(run, model, data, data_dir, image_size, channels), split)


def open_dataset(run: Path, model: Any, data: str | None, data_dir: str | None, image_size: str | None,
                 channels: int | None) -> Any:  # fmt: skip
    """The run's own data set, or the one at `data`, checked against the model."""
    from latentforge.api import data_of
    from latentforge.data import open_data
    from latentforge.run import Run
    from latentforge.tasks.encode import need_shape

    if data is not None:
        dataset = open_data(data, data_dir=data_dir, image_size=image_size, channels=channels)
    elif (run / "config.yaml").is_file():
        dataset = data_of(Run.open(run))
    else:
        raise InputError(f"{run} is an exported model and carries no data; name images with --data.")
    need_shape(model, dataset.image_shape, dataset.source)
    return dataset


def open_all(model: Any, data: str, data_dir: str | None, image_size: str | None, channels: int | None) -> Any:
    """All images of a folder or file in its order, checked against the model; their names, and those of their classes."""
    from latentforge.data.dataset import open_whole
    from latentforge.tasks.encode import need_shape

    found = open_whole(data, data_dir=data_dir, image_size=image_size, channels=channels)
    need_shape(model, found[0].shape, data)
    return found


def part_of(dataset: Any, split: str) -> Any:
    """One split of a data set, or all of it."""
    import torch

    from latentforge.data import Images

    if split != "all":
        return dataset.split(split)
    parts = [dataset.train, dataset.validation, dataset.test]
    labels = [p.labels for p in parts if p.labels is not None]
    return Images(torch.cat([p.pixels for p in parts]), torch.cat(labels) if len(labels) == len(parts) else None)


def training_data(run: Path, model: Any, data: str | None, **source: Any) -> Any:
    """The data set a run was trained on, checked against the model; of an exported model, which carries none, `data`."""
    own = (run / "config.yaml").is_file()
    source = {k: v for k, v in source.items() if k != "split"}
    return open_dataset(run, model, None if own else data, **source)
