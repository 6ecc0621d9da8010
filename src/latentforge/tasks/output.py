"""Images to where the user wants them: one grid, an array file, or a directory of pictures."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.data.modes import is_points
from latentforge.errors import InputError
from latentforge.files import atomic, contents
from latentforge.report.grid import grid, picture, save, to_numbers, to_uint8
from latentforge.report.points import draw_samples


def check_place(out: Path, *suffixes: str, flag: str = "--out") -> None:
    """InputError where `out` can be nothing of `suffixes` ('' is a directory). Asked before the work, which may be long."""
    if out.suffix.lower() not in suffixes:
        names = [f"NAME{s}" if s else "a directory" for s in suffixes]
        raise InputError(f"{flag} {out}: write to {' or '.join(names)}.")
    if not out.suffix and out.exists() and (not out.is_dir() or any(contents(out))):
        raise InputError(f"{flag} {out} exists and is not an empty directory; choose another.")
    if out.suffix and out.is_file():
        with writing(out, flag), open(out, "r+b"):  # no other program holds it, as Excel does on Windows
            pass


def write_images(
    images: Tensor, out: Path, columns: int | None = None, labels: Tensor | None = None, names: list[str] | None = None
) -> str:
    """Write images (N, C, H, W) in [0, 1] to `out`: NAME.png is one grid, NAME.npz holds `images` uint8
    (N, H, W, C), with `labels` where there are any; anything without a suffix is a directory of PNG files, called like
    the files that the images came from where `names` has these. Points (N, 2, 1, 1) are a scatter plot or float32. Returns
    what was written, in words."""
    check_place(out, ".png", ".npz", "")
    if out.suffix.lower() == ".npz":
        extra = {} if labels is None else {"labels": labels.cpu().numpy()}
        return write_arrays(out, images=to_numbers(images), **extra)
    if is_points(tuple(images.shape[1:])):
        return write_points(images, out)
    with writing(out):
        if out.suffix.lower() == ".png":
            save(grid(images, columns), out)
            return f"{out}: a grid of {len(images)} images"
        files = [f"{i:06d}.png" for i in range(len(images))] if names is None else file_names(names)
        return write_folder(zip(files, images, strict=True), out)


def write_folder(pictures: Iterable[tuple[str, Tensor]], out: Path) -> str:
    """Write images (C, H, W) in [0, 1], of any sizes, as files of the names beside them. Returns what was written, in
    words."""
    count = 0
    with writing(out), atomic(out) as part:
        part.mkdir()
        for file, image in pictures:
            picture(to_uint8(image[None])[0]).save(part / file)
            count += 1
    return f"{out}: {count} images"


def file_names(names: list[str]) -> list[str]:
    """Names of PNG files after those of the images they came from: folders joined with a dash, with a number where two would be
    the same, which on many systems they are where only the case of letters differs."""
    stems = [Path(n).with_suffix("").as_posix().replace("/", "-") for n in names]
    seen = Counter(s.casefold() for s in stems)
    taken = {s for s, count in seen.items() if count == 1}
    out = []
    for i, stem in enumerate(stems):
        name = stem
        if seen[stem.casefold()] > 1:
            name = next(n for j in itertools.count(i) if (n := f"{stem}-{j:06d}").casefold() not in taken)
            taken.add(name.casefold())
        out.append(f"{name}.png")
    return out


def write_points(points: Tensor, out: Path) -> str:
    """Points (N, 2, 1, 1) in [0, 1] as a scatter plot."""
    check_place(out, ".png", ".npz")
    with writing(out):
        save(draw_samples(points, Images(points[:0]), None), out)
    return f"{out}: {len(points)} points"


def write_arrays(out: Path, **arrays: Any) -> str:
    """Write arrays to NAME.npz."""
    check_place(out, ".npz")
    with writing(out), atomic(out) as part, open(part, "wb") as f:
        np.savez_compressed(f, **arrays)
    return f"{out}: " + ", ".join(f"{k} {np.shape(v)}" for k, v in arrays.items())


def write_columns(out: Path, columns: dict[str, Any], **single: Any) -> str:
    """Write columns of N values: NAME.csv has a line for each of the N, NAME.npz an array for each column, and what is
    `single` besides. Returns what was written, in words."""
    check_place(out, ".csv", ".npz")
    if out.suffix.lower() == ".npz":
        return write_arrays(out, **{k: np.asarray(v) for k, v in columns.items()}, **single)
    with writing(out), atomic(out) as part, open(part, "w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return f"{out}: {', '.join(columns)} of {len(next(iter(columns.values())))} images"


@contextmanager
def writing(out: Path, flag: str = "--out") -> Iterator[None]:
    """Makes the folder that `out` goes into, and turns an OSError, there or inside the block, into one line about `out`."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another {flag}.") from None
