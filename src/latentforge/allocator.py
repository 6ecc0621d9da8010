"""Memory while a model trains: what is freed is kept, and want of it is one line.

glibc gives every large freed block back to the system, and a training step pays for it in page faults, a
convolutional one most. Inside `keep_freed_memory` freed blocks are kept; afterwards they are returned. Other C
libraries are left alone."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from latentforge.errors import RunError

NO_MEMORY = (  # in the words of CUDA, Linux, Windows, Metal, cuBLAS and cuDNN 9
    "out of memory", "allocate memory", "not enough memory", "Invalid buffer size", "STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",
)  # fmt: skip
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
MOST = 2**30, 2**25  # bytes of a block that is kept; older versions take no more than 32 MiB
KEEP = {M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
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
    if not any(mallopt(M_MMAP_THRESHOLD, most) for most in MOST):
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


def is_want_of_memory(error: RuntimeError) -> bool:
    return any(words in str(error) for words in NO_MEMORY)


@contextmanager
def want_of_memory(batch_size: int) -> Iterator[None]:
    """Turns torch's errors of want of memory inside the block, of any device, into one line."""
    try:
        yield
    except RuntimeError as error:
        if not is_want_of_memory(error):
            raise
        raise RunError(
            f"training takes more memory than there is; lower --batch-size {batch_size}, cut it into parts with "
            "--accumulate, or make images smaller with --image-size."
        ) from error
