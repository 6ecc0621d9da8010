"""A data set as models and trainer see it: three splits, and where they came from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentforge.data import named
from latentforge.data.arrays import conform, parts_from_arrays, read_numpy
from latentforge.data.batch import Images, is_pixels, joined
from latentforge.data.decode import SMALLEST, SUFFIXES, Found, Item, Part, Size, read_images, shown, some
from latentforge.data.folder import read_folder
from latentforge.data.modes import Modes
from latentforge.data.parquet import read_parquet
from latentforge.data.room import take
from latentforge.errors import InputError, suggest
from latentforge.files import place


@dataclass
class Dataset:
    """Three splits of images of one shape, with classes, descriptors or neither. InputError where pixels or labels are
    not as `Images` has them."""

    name: str
    source: str  # where it came from, for people
    train: Images
    validation: Images
    test: Images
    classes: list[str] | None = None  # names of the labels 0..K-1, None where there are no names
    notes: list[str] = field(default_factory=list)  # what the user should be told about how it was read
    modes: Modes | None = None  # the components, where the images are points of a known mixture
    descriptors: list[str] | None = None  # names of the descriptors, None where labels are classes or missing

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            need_pixels(getattr(self, name), f"{self.source}, {name}")
        labels = self.train.labels
        if self.descriptors is None and labels is not None and labels.is_floating_point():
            self.descriptors = [f"d{i}" for i in range(labels.shape[1])]

    def split(self, name: str) -> Images:
        """`train`, `validation` or `test`; InputError for any other name."""
        if name not in (splits := ("train", "validation", "test")):
            raise InputError(f"there is no split '{name}'; choose from {', '.join(splits)}.")
        return getattr(self, name)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.train.shape

    @cached_property
    def num_classes(self) -> int:
        """The number of classes; 0 where there are no labels, or descriptors."""
        if self.train.labels is None or self.descriptors is not None:
            return 0
        if self.classes is not None:
            return len(self.classes)
        parts = (self.train, self.validation, self.test)
        return 1 + max(int(p.labels.max()) for p in parts if p.labels is not None)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over shapes, types, pixels and labels of all splits: changed data are noticed on resume."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for tensor in (part.pixels, part.labels):
                if tensor is None:
                    digest.update(b"none;")
                else:
                    digest.update(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
                    digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def need(self, fingerprint: str) -> None:
        """InputError unless these are the images of that fingerprint."""
        if fingerprint != self.fingerprint:
            raise InputError(
                f"{self.source}: the images are not those this run began with; restore them or train anew."
            )


def need_pixels(part: Images, where: str) -> None:
    """InputError unless pixels are (N, C, H, W), bytes or floats in [0, 1], as far as about a thousand of them show,
    and labels as many. A split without images is not looked at."""
    pixels, labels = part.pixels, part.labels
    if pixels.dim() != 4 or not (pixels.dtype == torch.uint8 or pixels.is_floating_point()):
        kind = str(pixels.dtype).removeprefix("torch.")
        raise InputError(
            f"{where}: pixels {tuple(pixels.shape)} of type {kind}; give (N, C, H, W), uint8 or floats in [0, 1]"
        )
    if not is_pixels(pixels[:: max(1, len(pixels) // 1000)]):
        raise InputError(f"{where}: pixels are not all in [0, 1]; give bytes as uint8, or divide them by 255")
    if labels is not None and len(pixels) and len(labels) != len(pixels):
        raise InputError(f"{where}: {len(labels)} labels for {len(pixels)} images; give one for each")


def open_data(
    source: str | Path | np.ndarray | Tensor | tuple | Dataset,
    *,
    data_dir: str | Path | None = None,
    image_size: int | str | Size | None = None,
    channels: int | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    labels: int | None = None,
    labels_seed: int = 0,
) -> Dataset:
    """The data set at `source`, in memory, or in a file where memory is too small (`data/room.py`).

    source: a named set (`latentforge data` lists them); a folder of images; an .npz, .npy or .parquet file; an array
    or tensor (N, H, W), (N, H, W, C) or (N, C, H, W); a tuple (images, labels); or a Dataset, returned unchanged. Labels
    of arrays and .npz files are classes where they are integers or texts and descriptors where they are floating point
    (`arrays.labels_from_array` has the rule).
    data_dir: where named sets are looked for first. image_size: None, a side, or (H, W): every image is cropped at the
    centre to that aspect and resized. channels: 1 to 4, forced on every image. skip_bad: leave unusable files out, with
    a note. seed: of the 80/10/10 cut of own data. labels: hide all but this many training labels, those kept balanced over
    the classes and chosen by labels_seed; a hidden or unknown label is -1, and images without one are training images.

    Raises InputError (one line: what, where, what to do) for everything that cannot be used.
    """
    size = size_of(image_size)
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give 0 or more")
    check_channels(channels)
    if labels is None and labels_seed:
        raise InputError(f"labels_seed {labels_seed} chooses which labels are kept; say how many with labels too")
    if not isinstance(labels, int | np.integer | None):
        raise InputError("labels is how many training labels to keep; give labels themselves as (images, labels)")
    if labels is not None:
        from latentforge.data.hide import hide_labels

        read: dict[str, Any] = dict(
            data_dir=data_dir, image_size=image_size, channels=channels, skip_bad=skip_bad, seed=seed
        )
        return hide_labels(open_data(source, **read), labels, labels_seed)
    if isinstance(source, Dataset):
        c, h, w = source.image_shape
        if (size or (h, w)) != (h, w) or (channels or c) != c:
            raise InputError(
                f"{source.name}: a data set that is open already keeps its {c}x{h}x{w} images; "
                "give image_size and channels when it is first opened"
            )
        return source
    name, found = _find(source, data_dir, size, channels, skip_bad)
    if found.modes is not None and (size, channels) != (None, None):
        raise InputError(
            f"{name}: points in the plane have neither size nor channels; leave out image_size and channels"
        )
    for part in ("train", "validation", "test"):
        if getattr(found, part) is not None:
            setattr(found, part, conform(getattr(found, part), size, channels, name, found.notes))
    where = shown(source) if isinstance(source, str | Path) else "data"
    strata = found.train.labels if found.fixed else None
    parts = _three(found, where, 0 if found.fixed else seed, strata)
    return Dataset(name, found.source, **parts, classes=found.classes, notes=found.notes, modes=found.modes,
                   descriptors=found.descriptors)  # fmt: skip


class Whole(NamedTuple):
    """All images of a source in its own order; their names, which are those of files in a folder and row numbers elsewhere;
    the names of their classes, None where they have none; and what the user should be told about how it was read."""

    images: Images
    names: list[str]
    classes: list[str] | None
    notes: list[str]


def open_whole(
    source: str | Path,
    *,
    data_dir: str | Path | None = None,
    image_size: int | str | Size | None = None,
    channels: int | None = None,
    skip_bad: bool = False,
) -> Whole:
    """All images at `source`, one at least and uncut, to use a model on and not to train it. A single image file will do;
    otherwise the arguments and the errors are those of `open_data`."""
    size = size_of(image_size)
    check_channels(channels)
    path = place(source)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        array, _, notes = read_images([Item(shown(path), path)], path, size, channels, False)
        name, found = shown(path), Found(shown(path), Part(array, None), names=[path.name], notes=notes)
    else:
        name, found = _find(source, data_dir, size, channels, skip_bad)
    parts = [p for p in (found.train, found.validation, found.test) if p is not None]
    whole = [_images(conform(p, size, channels, name, found.notes)) for p in parts]
    if len({p.shape for p in whole}) > 1:
        raise InputError(f"{shown(source)}: splits of different shapes; make them alike or give --image-size")
    images = joined(whole)
    return Whole(images, found.names or [str(i) for i in range(len(images))], found.classes, found.notes)


def check_channels(channels: int | None) -> None:
    if channels not in (None, 1, 2, 3, 4):
        raise InputError(f"channels={channels!r} is not possible: choose 1 (grey), 2, 3 (RGB) or 4 (RGBA)")


def size_of(value: int | str | Size | None) -> Size | None:
    """(H, W) from 64, '64', '30x46' or (30, 46)."""
    if value is None:
        return None
    sides: Any = value
    if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", value.strip())):
        sides = tuple(int(side) for side in match.groups() if side)
    elif isinstance(value, int | np.integer):
        sides = (value,)
    if not isinstance(sides, tuple | list) or not all(
        isinstance(s, int | np.integer) and not isinstance(s, bool) for s in sides
    ):
        raise InputError(f"image size {shown(value)!r} is neither a number nor HEIGHTxWIDTH, e.g. 64 or 30x46")
    if len(sides) not in (1, 2) or min(sides) < SMALLEST:
        raise InputError(
            f"image size {shown(value)} is not possible; give one or two sides of at least {SMALLEST}, e.g. 64"
        )
    return int(sides[0]), int(sides[-1])


def _find(
    source: Any, data_dir: str | Path | None, size: Size | None, channels: int | None, skip_bad: bool
) -> tuple[str, Found]:
    """The name and what was read, before splits are cut."""
    if isinstance(source, tuple):
        if len(source) != 2:
            raise InputError(f"data: a tuple of {len(source)}; give (images, labels)")
        return "arrays", parts_from_arrays({"train": (*source, "images")}, "arrays in memory", "data")
    if not isinstance(source, str | Path):
        return "array", parts_from_arrays({"train": (source, None, "data")}, "an array in memory", "data")
    if isinstance(source, str) and source in named.SETS:
        found = named.load(source, data_dir)
        if Path(source).is_dir():
            found.notes.append(f"'{source}' is the named set; for the folder of that name here give ./{source}")
        return source, found
    if not str(source).strip():
        raise InputError(f"data '{shown(source)}': nothing given; name a set ({', '.join(named.SETS)}) or a folder")
    try:
        path = Path(source).expanduser()
    except RuntimeError:
        raise InputError(f"{shown(source)}: no such user's home folder; give the whole path") from None
    try:
        if path.is_dir():
            return shown(path.resolve().name), read_folder(path, size, channels, skip_bad)
        if not path.exists():
            raise _nothing_there(source)
        return shown(path.stem), _read_file(path, size, channels, skip_bad)
    except OSError as error:
        raise InputError(f"cannot read {shown(path)}: {error.strerror or shown(error)}") from None


def _nothing_there(source: str | Path) -> InputError:
    text = shown(source)
    if isinstance(source, Path) or "/" in text or "\\" in text or Path(text).suffix:
        return InputError(f"no file or folder {text}; check the path, or name a set: {', '.join(named.SETS)}")
    return InputError(
        f"no data set, file or folder '{text}'.{suggest(text, named.SETS)} For your own images give their folder"
    )


def _read_file(path: Path, size: Size | None, channels: int | None, skip_bad: bool) -> Found:
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        return read_numpy(path)
    if suffix == ".parquet":
        return read_parquet(path, size, channels, skip_bad)
    if suffix in SUFFIXES:
        raise InputError(f"{shown(path)} is a single image; give the folder that holds your images")
    raise InputError(f"{shown(path)}: cannot read this kind of file; give a folder of images, .npz, .npy or .parquet")


def _three(found: Found, where: str, seed: int, strata: np.ndarray | None) -> dict[str, Images]:
    """The three splits as tensors, each in the original order; those that are missing are cut from train by `seed`, a tenth
    each, with `strata` (N,) a tenth of each of its values. InputError for fewer than 8 images."""
    have = {"train": found.train, "validation": found.validation, "test": found.test}
    missing = [name for name in ("test", "validation") if have[name] is None]
    if missing:
        if len(found.train.pixels) < 8:
            raise InputError(
                f"{where}: {len(found.train.pixels)} images are too few; at least 8 are needed to cut off "
                f"{' and '.join(missing)}"
            )
        cuts = _tenths(len(found.train.pixels), seed, len(missing), strata, found.train.labels, where)
        for name, index in zip([*missing, "train"], cuts, strict=True):
            labels = found.train.labels
            have[name] = Part(take(found.train.pixels, index), None if labels is None else labels[index])
    for name in ("validation", "test"):
        have[name] = _with_labels(have[name], name, where, found.notes)
    if missing:
        cut = {name: part.labels for name, part in have.items() if part is not None and name in ("train", *missing)}
        known = {name: y for name, y in cut.items() if y is not None and y.dtype.kind == "i"}
        _note_absent(known, found.classes, found.notes)
    parts = {name: _images(part) for name, part in have.items() if part is not None}
    shapes = {name: "x".join(map(str, part.shape)) for name, part in parts.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        _, h, w = parts["train"].shape
        raise InputError(f"{where}: splits of different shapes ({listed}); make them alike or add --image-size {h}x{w}")
    return parts


def _tenths(
    n: int, seed: int, cuts: int, strata: np.ndarray | None, labels: np.ndarray | None = None, where: str = ""
) -> list[np.ndarray]:
    """`cuts` random tenths of range(n), at least one row each, then the rest; sorted. With strata, a tenth of each. Where some
    rows have a class and others none (-1), those without are all in the rest: what is held out must be measurable."""
    order = np.random.default_rng(seed).permutation(n)
    if labels is not None and labels.dtype.kind == "i" and labels.min(initial=0) < 0 <= labels.max(initial=-1):
        unknown = order[labels[order] < 0]
        order = order[labels[order] >= 0]
        *held, rest = _cut(order, cuts, strata)
        first = order[np.unique(labels[order], return_index=True)[1]]  # one of each class
        if not np.isin(labels[first], labels[rest]).all():  # few are labelled: these are for training
            order = order[~np.isin(order, first)]
            if len(order) < cuts:
                raise InputError(
                    f"{where}: {len(first) + len(order)} labelled images of {len(first)} classes are too few to train on one "
                    f"of each class and hold out {cuts}; label more"
                )
            *held, rest = _cut(order, cuts, strata)
            rest = np.concatenate([rest, first])
        return [*held, np.sort(np.concatenate([rest, unknown]))]
    return _cut(order, cuts, strata)


def _cut(order: np.ndarray, cuts: int, strata: np.ndarray | None) -> list[np.ndarray]:
    groups = [order] if strata is None else [order[strata[order] == value] for value in np.unique(strata)]
    pieces: list[list[np.ndarray]] = [[] for _ in range(cuts + 1)]
    for group in groups:
        tenth = max(1, round(len(group) / 10))
        for i in range(cuts):
            pieces[i].append(group[i * tenth : (i + 1) * tenth])
        pieces[cuts].append(group[cuts * tenth :])
    return [np.sort(np.concatenate(piece)) for piece in pieces]


def _note_absent(labels: dict[str, np.ndarray], classes: list[str] | None, notes: list[str]) -> None:
    """Say which classes have no image in a part that was cut at random."""
    every = np.unique(np.concatenate([*labels.values(), np.empty(0, np.int64)]))
    for name, own in labels.items():
        absent = np.setdiff1d(every[every >= 0], own).tolist()
        if absent:
            notes.append(
                f"no image of class {some([shown(k if classes is None else classes[k]) for k in absent])} is in {name}, as "
                "the cut is random; make folders train, validation and test yourself, or train with another --data-seed"
            )


def _with_labels(part: Part | None, name: str, where: str, notes: list[str]) -> Part | None:
    """A held-out part without the images whose class is not known (-1)."""
    if part is None or part.labels is None or part.labels.dtype.kind == "f" or not (part.labels < 0).any():
        return part
    known = part.labels >= 0
    if not known.any():
        raise InputError(f"{where}: no image of {name} has a label; label some, or leave out that split")
    notes.append(f"{int((~known).sum()):,} images of {name} without a label were left out")
    return Part(take(part.pixels, known), part.labels[known])


def _images(part: Part) -> Images:
    pixels = torch.from_numpy(np.ascontiguousarray(part.pixels))
    if part.labels is None:
        return Images(pixels)
    kind = np.float32 if part.labels.dtype.kind == "f" else np.int64
    return Images(pixels, torch.from_numpy(np.ascontiguousarray(part.labels, kind)))
