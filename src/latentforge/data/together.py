"""One copy of the images for all processes on a machine: the first of them reads them, the others map what it read."""

from __future__ import annotations

import mmap
import os
import sys
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
    InputError on every process where one of them has it, or where machines have read different images."""
    rank, world = distributed.start()
    if world == 1 or not isinstance(source, str | Path):
        return open_data(source, **options)
    size, local = int(os.environ.get("LOCAL_WORLD_SIZE", world)), int(os.environ["LOCAL_RANK"])
    long = timedelta(days=1)  # decoding a large folder may take hours, on one machine more than on another
    groups = [dist.new_group(list(range(i, i + size)), long, "gloo") for i in range(0, world, size)]
    everyone = dist.new_group(None, long, "gloo")
    group, file = groups[rank // size], cache() / f"images-{uuid.uuid4().hex}"
    told: list[Any] = [None]
    try:
        if local == 0:
            told = [publish(file, source, options)]
        dist.broadcast_object_list(told, rank - local, group)
        found = told[0] if isinstance(told[0], InputError) else received(*told[0])
        dataset = agreed(source, found, everyone)
        for own in (group, everyone):
            dist.destroy_process_group(own)
    finally:
        file.unlink(missing_ok=True)  # what is mapped stays until the last process ends
    return dataset


def publish(file: Path, source: Any, options: dict[str, Any]) -> tuple[Path, Dataset, dict[str, Any], str] | InputError:
    """Write the pixels of every split to `file`. What the others are told: where, all but the pixels, which bytes are whose,
    and the fingerprint."""
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
    return file, replace(dataset, **bare), where, dataset.fingerprint


def received(file: Path, dataset: Dataset, where: dict[str, Any], fingerprint: str) -> Dataset | InputError:
    """The data set with its pixels mapped, privately: nobody else sees what a process writes there."""
    try:
        whole = mapped_privately(file)
    except OSError as error:
        return InputError(
            f"{shown(file)} cannot be mapped into memory ({error.strerror or error}); where vm.overcommit_memory is 2, set it "
            "to 0, or train with one process."
        )
    parts: dict[str, Any] = {}
    for name, (offset, shape, kind) in where.items():
        pixels = torch.from_numpy(np.ndarray(shape, kind, whole, offset))
        parts[name] = Images(pixels, getattr(dataset, name).labels)
    dataset = replace(dataset, **parts)
    dataset.__dict__["fingerprint"] = fingerprint  # or every process would read all the pixels for it
    return dataset


def mapped_privately(file: Path) -> Any:
    """The bytes of a file. Linux would set memory aside for all of them, which might be written to, and so refuse a file that
    is larger than memory; it is asked not to."""
    if not sys.platform.startswith("linux"):
        return np.memmap(file, np.uint8, "c")
    with open(file, "rb") as f:
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)  # has a name from Python 3.13 on
        return mmap.mmap(f.fileno(), 0, flags, mmap.PROT_READ | mmap.PROT_WRITE)


def agreed(source: Any, dataset: Dataset | InputError, everyone: Any) -> Dataset:
    """The data set, as soon as every process has its own. InputError where one of them has that, or other images."""
    mine: Any = dataset
    if isinstance(dataset, Dataset):
        mine = sum(len(getattr(dataset, name)) for name in PARTS), dataset.fingerprint
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine, everyone)
    if isinstance(dataset, InputError):
        raise dataset
    for other in found:
        if isinstance(other, InputError):
            raise InputError(f"another process: {other}")
        if other != mine:
            raise InputError(
                f"{shown(source)}: the machines have read different images ({mine[0]:,} here, {other[0]:,} elsewhere); give "
                "all of them the same files."
            )
    return dataset
