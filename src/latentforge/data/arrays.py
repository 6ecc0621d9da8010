"""Images that come as arrays: numpy, torch, .npz, .npy."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentforge.data.decode import (
    SMALLEST,
    Found,
    Part,
    Size,
    in_threads,
    natural,
    reason,
    resize,
    shown,
    some,
    to_channels,
)
from latentforge.data.room import check_memory, room
from latentforge.errors import InputError

# Accepted keys of an .npz, most telling first: split -> (images, labels).
FAMILIES: tuple[dict[str, tuple[str, str]], ...] = (
    {
        "train": ("train_images", "train_labels"),
        "validation": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
    {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")},
    {"train": ("images", "labels")},
    {"train": ("x", "y")},
    {"train": ("arr_0", "arr_1")},
)
CLASSES = "classes"  # beside any of them: the names of classes 0, 1 ...
ACCEPTED = (
    "images/labels, x/y, x_train/y_train (and x_val, x_test), train_images/train_labels (and val_, test_), arr_0/arr_1"
)


# ---- arrays -----------------------------------------------------------------------------------------------------


def images_from_array(array: Any, where: str) -> tuple[np.ndarray, list[str]]:
    """Pixels (N, C, H, W) uint8 or float32 in [0, 1], and notes.

    `array` is (N, H, W), (N, H, W, C) or (N, C, H, W) with C in 1..4, the last axis being tried first; bool, an
    integer type with values in 0..255, uint16, or floating point in [0, 1]. Raises InputError for anything else.
    """
    return _values(_axes(as_numpy(array, where), where), where)


def as_numpy(array: Any, where: str) -> np.ndarray:
    """An array, tensor or column of a table as an array. InputError for what numpy cannot hold."""
    if hasattr(array, "detach"):  # a torch tensor, wherever it lives; bfloat16 has no numpy type
        try:
            array = array.detach().cpu()
            array = array.float().numpy() if str(array.dtype) == "torch.bfloat16" else array.numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantised, 8-bit floats
            raise InputError(f"{where}: a tensor that numpy cannot hold ({reason(error)}); give a plain one") from None
    if not isinstance(array, np.ndarray) and hasattr(array, "__array__"):  # of pandas, say
        try:
            array = np.asarray(array)
        except Exception as error:  # other packages raise whatever they like
            raise InputError(f"{where}: cannot be made an array ({reason(error)}); give a plain one") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{where}: expected an array or a tensor, not {type(array).__name__}; use numpy.stack(images)")
    if array.dtype == object and array.size and all(isinstance(v, str) for v in array.flat):  # pandas keeps texts so
        return array.astype(str)
    if array.dtype == object:
        raise InputError(
            f"{where}: an array of Python objects; give one plain array of numbers, or for labels of texts, with no "
            "value missing"
        )
    return array


def _axes(array: np.ndarray, where: str) -> np.ndarray:
    """`array` seen as (N, C, H, W)."""
    shape = "x".join(str(n) for n in array.shape)
    if array.ndim == 3:
        seen = array[:, None]
    elif array.ndim == 4 and 1 <= array.shape[3] <= 4:
        seen = np.moveaxis(array, 3, 1)
    elif array.ndim == 4 and 1 <= array.shape[1] <= 4:
        seen = array
    elif array.ndim == 4:
        raise InputError(f"{where}: shape {shape} has no axis of 1 to 4 channels, neither the last nor the second")
    else:
        hint = "; flat rows need reshape(-1, height, width)" if array.ndim == 2 else ""
        raise InputError(f"{where}: shape {shape} is not (N, H, W), (N, H, W, C) or (N, C, H, W){hint}")
    if len(seen) == 0:
        raise InputError(f"{where}: shape {shape} holds no images")
    if min(seen.shape[2:]) < SMALLEST:
        h, w = seen.shape[2:]
        raise InputError(
            f"{where}: shape {shape} was read as images of {h}x{w}, smaller than {SMALLEST} pixels a side; "
            "give (N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    return seen


def _values(array: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    kind = array.dtype.kind
    if kind == "b":
        return np.ascontiguousarray(array).astype(np.uint8) * np.uint8(255), []
    if kind in "ui":
        return _integers(array, where)
    if kind != "f":
        raise InputError(f"{where}: values of type {array.dtype}; give uint8, or floating point in [0, 1]")
    low, high = array.min(), array.max()  # NaN if there is any
    if not (np.isfinite(low) and np.isfinite(high)):
        broken = ~np.isfinite(array)
        first = int(np.argmax(broken.reshape(len(array), -1).any(1)))
        raise InputError(
            f"{where}: {int(broken.sum()):,} values are NaN or infinite, the first in image {first}; "
            "remove or replace these images"
        )
    if low < -1e-6 or high > 1 + 1e-6:
        if low >= -1 - 1e-6 and high <= 1 + 1e-6:
            remedy = "rescale with (x + 1) / 2"
        elif low >= 0 and high <= 255:
            remedy = "divide by 255"
        else:
            remedy = "rescale to [0, 1]"
        raise InputError(f"{where}: floating-point values from {low:g} to {high:g}, not in [0, 1]; {remedy}")
    return np.ascontiguousarray(array, dtype=np.float32).clip(0, 1), []


def _integers(array: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    low, high = int(array.min()), int(array.max())
    if array.dtype == np.uint16 and high > 255:
        dim = f"{where}: no value above {high:,} of 65,535, nearly black; divide by the greatest and pass floats"
        return np.ascontiguousarray(array).astype(np.float32) / 65535, [dim] if 10 * high < 65535 else []
    if low < 0 or high > 255:
        raise InputError(
            f"{where}: {array.dtype} values from {low} to {high}, not in 0..255; "
            "rescale to uint8, or to floating point in [0, 1]"
        )
    notes = []
    if array.dtype == np.uint16:
        notes.append(f"{where}: uint16 with no value above 255 was read as 8-bit")
    if high == 1:
        notes.append(f"{where}: no value above 1 of 255, nearly black; pass bool or floats for black and white")
    return np.ascontiguousarray(array, dtype=np.uint8), notes


def labels_from_array(array: Any, count: int, where: str) -> np.ndarray:
    """Classes (N,) int64, not yet made contiguous, or their names (N,), or descriptors (N, D) float32.

    Integers and texts, (N,) or (N, 1), are classes. Floating point, (N, D), are descriptors; so is (N,), with D = 1,
    unless every value is whole: such numbers may be meant as classes, and the user has to say which. Raises InputError
    for that and for anything else, NaN and infinity among it.
    """
    if isinstance(array, list | tuple):
        try:  # beside texts numpy would make texts of all else, a missing value too
            array = np.asarray(array, object if any(isinstance(v, str) for v in array) else None)
        except (ValueError, OverflowError):
            raise InputError(f"{where}: a list that is not one integer per image, or one row of numbers") from None
    array = as_numpy(array, where)
    if array.dtype.kind == "f":
        return _descriptors(array, count, where)
    shape = "x".join(str(n) for n in array.shape) or "a single number"
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        more = ", or descriptors (N, D) in floating point" if array.ndim == 2 and array.dtype.kind in "iu" else ""
        raise InputError(
            f"{where}: labels have shape {shape}; give one integer or text per image, (N,) or (N, 1){more}"
        )
    if array.dtype.kind not in "iuU":
        raise InputError(
            f"{where}: labels of type {array.dtype}; give integers or texts, labels.astype('int64') or labels.astype(str)"
        )
    _one_each(array, count, where)
    if array.dtype.kind == "U":
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        if array.view(np.uint32).max(initial=0) > sys.maxunicode:  # as of a damaged file; Python cannot hold them
            raise InputError(f"{where}: labels with characters that do not exist; write the texts anew")
        return array
    if len(array) and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{where}: label {int(array.max())} is beyond 64-bit integers; number the classes from 0")
    return array.astype(np.int64)


def _descriptors(array: np.ndarray, count: int, where: str) -> np.ndarray:
    shape = "x".join(str(n) for n in array.shape) or "a single number"
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] == 0):
        raise InputError(f"{where}: descriptors have shape {shape}; give one row of numbers per image, (N, D)")
    _one_each(array, count, where)
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, np.float32).reshape(count, -1)
    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values).all(1)))
        raise InputError(
            f"{where}: descriptors are NaN or beyond 32-bit floats, first for image {first}; remove or replace them"
        )
    if array.ndim == 1 and (values == np.round(values)).all():
        raise InputError(
            f"{where}: labels of type {array.dtype}, all of them whole numbers; give classes as integers, "
            "labels.astype('int64'), or a descriptor as labels.reshape(-1, 1)"
        )
    return values


def _one_each(array: np.ndarray, count: int, where: str) -> None:
    if len(array) != count:
        raise InputError(f"{where}: {len(array):,} labels for {count:,} images; give one label per image")


def parts_from_arrays(
    arrays: Mapping[str, tuple[Any, Any, str]], source: str, where: str, names: list[str] | None = None
) -> Found:
    """Splits given as arrays: split -> (images, labels or None, name of the array for messages). `names` of the classes 0, 1
    ..., where they are known: then no class is numbered anew.

    Raises InputError for what `images_from_array` and `labels_from_array` refuse, and for splits that do not match.
    """
    images: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray | None] = {}
    notes: list[str] = []
    for split, (pixels, label, name) in arrays.items():
        images[split], more = images_from_array(pixels, name)
        notes += more
        labels[split] = None if label is None else labels_from_array(label, len(images[split]), f"{name} (labels)")
    if len({x.dtype for x in images.values()}) > 1:
        listed = ", ".join(f"{split} {x.dtype}" for split, x in images.items())
        raise InputError(f"{where}: splits of different types ({listed}); store them all alike")
    missing = [split for split, y in labels.items() if y is None]
    if missing and len(missing) < len(labels):
        raise InputError(f"{where}: no labels for {', '.join(missing)}, but for the rest; add them or drop the others")
    kinds = {split: _kind(y) for split, y in labels.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{split} {kind}" for split, kind in kinds.items())
        raise InputError(f"{where}: labels of different kinds ({listed}); store them all alike")
    if "texts" in kinds.values():
        names = numbered(labels, names, where)
    classes = contiguous(labels, notes) if names is None else named(labels, names, where, notes)
    parts = {split: Part(images[split], labels[split]) for split in images}
    return Found(source, parts["train"], parts.get("validation"), parts.get("test"), classes, notes)


def _kind(labels: np.ndarray | None) -> str:
    if labels is None:
        return "none"
    if labels.dtype.kind == "U":
        return "texts"
    return "classes" if labels.ndim == 1 else f"{labels.shape[1]} descriptors"


def unknown_labels(count: int) -> str:
    return f"{count:,} labels are -1: these images count as unlabelled"


def contiguous(labels: dict[str, np.ndarray | None], notes: list[str]) -> list[str] | None:
    """Renumber classes in place to 0..K-1 where they are not; the original values become the class names. -1 beside two
    classes or more is no class but an unknown label, and stays."""
    present = [y for y in labels.values() if y is not None and y.ndim == 1]
    if not present:
        return None
    values = np.unique(np.concatenate([np.unique(y) for y in present]))
    if len(values) > 2 and -1 in values:
        notes.append(unknown_labels(sum(int((y == -1).sum()) for y in present)))
        values = values[values != -1]
    if values[0] == 0 and values[-1] == len(values) - 1:
        return None
    for split, y in labels.items():
        if y is not None:
            labels[split] = np.where(np.isin(y, values), np.searchsorted(values, y), -1)
    names = [str(v) for v in values]
    notes.append(f"the labels {some(names, 6)} were renumbered from 0; their values are the class names")
    return names


def numbered(labels: dict[str, np.ndarray | None], names: list[str] | None, where: str) -> list[str]:
    """Replace texts in place by their place in `names`, or, where there are none, in their natural order; returns the names.
    InputError for a text that is none of `names`."""
    present = {text for y in labels.values() if y is not None for text in y.tolist()}
    if strange := sorted(shown(text) for text in present.difference(names or present)):
        raise InputError(f"{where}: labels that are no names of classes: {some(strange)}; name all classes, or none")
    known = names or sorted(present, key=lambda text: (natural(text), text))
    number = {text: i for i, text in enumerate(known)}
    for split, y in labels.items():
        if y is not None:
            labels[split] = np.array([number[text] for text in y.tolist()], np.int64)
    return [shown(text) for text in known]


def named(
    labels: dict[str, np.ndarray | None], names: list[str], where: str, notes: list[str]
) -> list[str] | None:  # fmt: skip
    """`names` where there are classes, each with one; -1 is an unknown label. InputError for a class without."""
    present = [y for y in labels.values() if y is not None and y.ndim == 1]
    if not present:
        return None
    values = np.unique(np.concatenate(present))
    for value in values[(values < -1) | (values >= len(names))][:1]:
        raise InputError(f"{where}: label {value}, and {len(names)} names of classes; name all from 0 on, or none")
    if unknown := sum(int((y == -1).sum()) for y in present):
        notes.append(unknown_labels(unknown))
    return names


def conform(part: Part, size: Size | None, channels: int | None, where: str, notes: list[str]) -> Part:
    """`part` with images cropped and resized to `size`, in `channels` channels; itself where it is so already."""
    n, have, height, width = part.pixels.shape
    size, wanted = size or (height, width), channels or have
    if (height, width) == size and have == wanted:
        return part
    result = room((n, wanted, *size), part.pixels.dtype, where, notes, copies=1)

    def fill(start: int) -> None:
        rows = slice(start, start + 256)
        images = part.pixels[rows]
        if (height, width) != size:
            images = np.stack([resize(image.transpose(1, 2, 0), size).transpose(2, 0, 1) for image in images])
        result[rows] = to_channels(images, wanted)

    in_threads(fill, range(0, n, 256), 1)
    return Part(result, part.labels)


# ---- files ------------------------------------------------------------------------------------------------------


def read_numpy(path: Path) -> Found:
    """An .npz (keys as in ACCEPTED) or .npy file. Never unpickles. Raises InputError for all it cannot use."""
    name = shown(path)
    arrays, ignored, classes = _load(path, name)
    notes = [f"arrays of {path.name} that were ignored: {some(ignored, 6)}"] if ignored else []
    found = parts_from_arrays(arrays, str(path.resolve()), name, classes)
    found.notes = notes + found.notes
    return found


def _load(path: Path, name: str) -> tuple[dict[str, tuple[Any, Any, str]], list[str], list[str] | None]:
    """split -> (images, labels, name for messages), the keys that were not read, and the names of classes."""
    try:
        with path.open("rb") as file:
            head = file.read(6)
        if not head.startswith((b"PK", b"\x93NUMPY", b"\x80")):  # the last of a pickle, for which numpy takes all else
            begins = f"it begins with '{shown(head.decode('latin-1'))}'" if head else "it is empty"
            raise InputError(f"{name}: is no numpy file ({begins}); download or save it again")
        needed = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # sizes after decompression, before a bomb can go off
                sizes = [(i.filename.removesuffix(".npy"), i.file_size) for i in archive.infolist()]
            read = {CLASSES, *(key for pair in _family([key for key, _ in sizes], name).values() for key in pair)}
            needed = sum(size for key, size in sizes if key in read)
        check_memory(2 * needed, name, "its arrays, which are copied once,", "use fewer images, or save them as a folder or "
                     ".parquet, which may be larger than memory")  # fmt: skip
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"train": (loaded, None, name)}, [], None
        with loaded:
            family = _family(loaded.files, name)
            taken = {
                split: (loaded[x], loaded[y] if y in loaded.files else None, f"{name} [{x}]")
                for split, (x, y) in family.items()
                if x in loaded.files
            }
            used = {key for split in taken for key in family[split]}
            for split, (x, y) in family.items():
                if y in loaded.files and x not in loaded.files:
                    raise InputError(f"{name}: has {y} but no {x}; add the images of {split} or remove their labels")
            names = loaded[CLASSES] if CLASSES in loaded.files else np.empty(0)
            known = names.ndim == 1 and names.dtype.kind == "U" and len(set(names.tolist())) == len(names) > 0
            used |= {CLASSES} if known else set()
            named_so: Any = names.tolist() if known else None
            return taken, [shown(key) for key in loaded.files if key not in used], named_so
    except InputError:
        raise
    except Exception as error:  # a damaged header or archive can raise nearly anything
        if "allow_pickle" in str(error):
            raise InputError(
                f"{name}: holds Python objects, which are never loaded; save one numeric array with numpy.savez"
            ) from None
        raise InputError(f"{name}: cannot be read ({reason(error)}); it may be damaged or cut short") from None


def _family(keys: list[str], name: str) -> dict[str, tuple[str, str]]:
    for family in FAMILIES:
        if family["train"][0] in keys:
            return family
    found = some([shown(key) for key in keys], 8) or "none"
    raise InputError(f"{name}: found the arrays {found}; needs one of {ACCEPTED}")
