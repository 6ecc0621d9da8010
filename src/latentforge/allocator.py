"""glibc gives every large freed block back to the system, and a training step pays for it in page faults, a
convolutional one most. Inside `keep_freed_memory` freed blocks are kept; afterwards they are returned. Other C
libraries are left alone."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
KEEP = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
# where glibc's thresholds move by themselves to in a process that frees large blocks; once set, they stay where they are put
AFTER = {M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 64 * 2**20, M_TOP_PAD: 128 * 1024}


@contextmanager
def keep_freed_memory() -> Iterator[bool]:
    """Keep freed memory for the duration of the block (Linux with glibc); whether that was possible."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield False
        return
    for option, value in KEEP.items():
        mallopt(option, value)
    try:
        yield True
    finally:
        for option, value in AFTER.items():
            mallopt(option, value)
        trim(0)
