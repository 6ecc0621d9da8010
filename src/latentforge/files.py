"""Writing files so that nothing half-written is ever seen under its own name."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WINDOWS = os.name == "nt"
UNSEEN = {".DS_Store", "desktop.ini", "Thumbs.db"}
UMASK = os.umask(0)
os.umask(UMASK)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to it when the block ends well, removed when it does not. What is
    written may be a file or a directory."""
    path = Path(os.path.abspath(path))  # "." has no name of its own
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        if part.is_dir():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            if path.exists():
                path.rename(old)
            part.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            with open(part, "rb+") as f:
                os.fsync(f.fileno())
            os.chmod(part, 0o666 & ~UMASK)  # safetensors makes private files
            part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def place(path: str | Path) -> Path:
    """A path as a user writes it, which may begin with ~."""
    return Path(os.path.expanduser(path))


def quoted(path: str | Path) -> str:
    """A path as a command takes it. cmd.exe knows no single quotes, and there a backslash needs none."""
    return subprocess.list2cmdline([str(path)]) if WINDOWS else shlex.quote(str(path))


def contents(folder: Path) -> Iterator[Path]:
    """What is in a folder, but for what Finder and Explorer leave in one that is looked into."""
    return (p for p in folder.iterdir() if p.name not in UNSEEN)


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, in one piece, none in the memory of another, where tied weights are."""
    out: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in tensors.items():
        value = value.contiguous().cpu()
        out[name] = value.clone() if value.numel() and value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return out


def cache() -> Path:
    """Where what was fetched or computed is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "latentforge"


def write_text(path: str | Path, text: str) -> None:
    """Write a text file at once or not at all. Bytes of a file's name that are no UTF-8 become escapes."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
