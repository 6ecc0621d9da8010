"""Where pixels are kept: in memory while they fit, else in a nameless file on disk that is mapped into it, so that the
system reads what is asked for and forgets what is not. Torch is not imported here."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latentforge.errors import InputError, shown
from latentforge.files import cache

COPIED = 2**22  # bytes at a time
SPARE = 2**30  # bytes of disk that are left alone
GROUP = Path("/sys/fs/cgroup")  # of this process, in a container


def room(
    shape: tuple[int, ...], kind: type | np.dtype, where: object, notes: list[str], *, copies: int = 2
) -> np.ndarray:
    """An array to be filled: plain where `copies` of it fit into the memory that is free now, else a memory map of a file
    that goes away with it, with a note. InputError where neither has room."""
    needed = math.prod(shape) * np.dtype(kind).itemsize
    if copies * needed <= available_memory():
        return np.empty(shape, kind)
    size = f"{needed / 2**30:.1f} GiB"
    if copies * needed > disk() - SPARE:
        raise InputError(
            f"{shown(where)}: {shape[0]:,} images are {size}, for which there is no room, neither in memory nor in "
            f"{shown(cache())}; use fewer images, smaller ones with --image-size, or set XDG_CACHE_HOME to a larger disk"
        )
    notes.append(f"{shape[0]:,} images are {size}, more than fits in memory; a file in {shown(cache())} holds them")
    return mapped(shape, kind)


def take(pixels: np.ndarray, rows: np.ndarray | Iterable[int]) -> np.ndarray:
    """The images of these rows: a copy in memory of what is in memory, on disk of what is on disk."""
    rows = np.asarray(rows)
    if not isinstance(pixels, np.memmap):
        return pixels[rows]
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    out = mapped((len(rows), *pixels.shape[1:]), pixels.dtype)
    step = max(1, COPIED // max(1, pixels[:1].nbytes))
    for start in range(0, len(rows), step):
        out[start : start + step] = pixels[rows[start : start + step]]
    return out


def mapped(shape: tuple[int, ...], kind: type | np.dtype) -> np.ndarray:
    with usable_cache(), tempfile.TemporaryFile(dir=made_cache()) as file:
        if hasattr(os, "posix_fallocate"):  # now, or a disk that another process fills ends this one without a word
            os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape) * np.dtype(kind).itemsize))
        return np.memmap(file, kind, "w+", shape=shape)


def disk() -> int:
    """Bytes that are free where such files lie."""
    with usable_cache():
        return shutil.disk_usage(made_cache()).free


def made_cache() -> Path:
    cache().mkdir(parents=True, exist_ok=True)
    return cache()


@contextlib.contextmanager
def usable_cache() -> Iterator[None]:
    """Turns an OSError inside the block into one line about the place, which is not the images'."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{shown(cache())}, where images lie that do not fit into memory, cannot be used ({error.strerror}); set "
            "XDG_CACHE_HOME to another place"
        ) from None


def check_memory(needed: int, where: object, what: str, remedy: str) -> None:
    """InputError where `needed` bytes do not fit into the memory that is free now."""
    free = available_memory()
    if needed > free:
        raise InputError(
            f"{shown(where)}: {what} need {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; {remedy}"
        )


def used(group: Path) -> int:
    """Bytes that a control group holds, files that the system would forget left out."""
    rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return (
        int((group / "memory.current").read_text())
        - int(rows.get("inactive_file", 0))
        - int(rows.get("active_file", 0))
    )


def windows_memory(kernel: Any) -> int:
    """Bytes that are free, in the words of Windows' kernel32."""
    # MEMORYSTATUSEX: its own 64 bytes and the load, all memory, what is free of it, and more
    status = (ctypes.c_uint64 * 8)(64)
    return status[2] if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else 2**62


def available_memory() -> int:
    """Bytes this process may still take."""
    try:  # sysconf's free pages leave out the page cache, which reading a large folder has just filled
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        try:
            free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            windows = getattr(ctypes, "windll", None)
            return windows_memory(windows.kernel32) if windows else 2**62  # unknown, so nothing is refused
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max"
        free = min(free, int((GROUP / "memory.max").read_text()) - used(GROUP))
    with contextlib.suppress(ImportError, OSError, StopIteration):  # not Linux
        from resource import RLIM_INFINITY, RLIMIT_DATA, getrlimit

        if (limit := getrlimit(RLIMIT_DATA)[0]) != RLIM_INFINITY:
            status = Path("/proc/self/status").read_text().splitlines()
            free = min(free, limit - 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmData")))
    return max(0, free)
