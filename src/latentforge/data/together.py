"""One copy of the images for all processes on a machine: the first of them reads them, the others map what it read."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from latentforge import distributed
from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset, open_data
from latentforge.data.room import SPARE, disk
from latentforge.errors import InputError, shown
from latentforge.files import cache

PARTS = ("train", "validation", "test")


def open_together(source: Any, **options: Any) -> Dataset:
    """`open_data`, once per machine under `torchrun`. What is in memory already is not sent anywhere.
    InputError on every process where the first one of the machine has it."""
    rank, world = distributed.start()
    if world == 1 or not isinstance(source, str | Path):
        return open_data(source, **options)
    size, local = int(os.environ.get("LOCAL_WORLD_SIZE", world)), int(os.environ["LOCAL_RANK"])
    long = timedelta(days=1)  # decoding a large folder may take hours
    groups = [dist.new_group(list(range(i, i + size)), long, "gloo") for i in range(0, world, size)]
    group, file = groups[rank // size], cache() / f"images-{uuid.uuid4().hex}"
    told: list[Any] = [None]
    try:
        if local == 0:
            told = [publish(file, source, options)]
        dist.broadcast_object_list(told, rank - local, group)
        if isinstance(told[0], InputError):
            raise told[0]
        dataset = received(*told[0])
        dist.barrier(group)
        dist.destroy_process_group(group)
    finally:
        file.unlink(missing_ok=True)  # what is mapped stays until the last process ends
    return dataset


def publish(file: Path, source: Any, options: dict[str, Any]) -> tuple[Path, Dataset, dict[str, Any]] | InputError:
    """Write the pixels of every split to `file`. What the others are told: where, all but the pixels, and which bytes
    are whose."""
    try:
        dataset = open_data(source, **options)
        parts = {name: getattr(dataset, name) for name in PARTS}
        needed = sum(part.pixels.nbytes for part in parts.values())
        if needed > disk() - SPARE:
            raise InputError(
                f"{shown(source)}: {needed / 2**30:.1f} GiB of images, for which {shown(cache())} has no room; processes "
                "share them there: set XDG_CACHE_HOME to a larger disk"
            )
        where: dict[str, Any] = {}
        with open(file, "xb") as f:
            for name, part in parts.items():
                where[name] = (f.tell(), tuple(part.pixels.shape), str(part.pixels.numpy().dtype))
                for piece in part.pixels.split(4096):
                    f.write(piece.contiguous().numpy().data)
                f.write(bytes(-f.tell() % 8))
    except InputError as error:
        return error
    except OSError as error:
        return InputError(f"{shown(file)} cannot be written ({error.strerror or error}); set XDG_CACHE_HOME elsewhere.")
    bare: dict[str, Any] = {name: Images(part.pixels[:0].clone(), part.labels) for name, part in parts.items()}
    return file, replace(dataset, **bare), where


def received(file: Path, dataset: Dataset, where: dict[str, Any]) -> Dataset:
    """The data set with its pixels mapped, privately: nobody else sees what a process writes there."""
    parts: dict[str, Any] = {}
    for name, (offset, shape, kind) in where.items():
        pixels = torch.from_numpy(np.memmap(file, kind, "c", offset, shape))
        parts[name] = Images(pixels, getattr(dataset, name).labels)
    return replace(dataset, **parts)
