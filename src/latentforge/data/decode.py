"""Image files to arrays: one image, and many that must agree in size and channels. Sizes are (height, width). Torch is
not imported here, so that listing data sets stays fast."""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from latentforge.data.modes import Modes
from latentforge.data.room import room, take
from latentforge.errors import InputError, shown

SUFFIXES = {".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"}
SUFFIXES |= {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
# Only these decoders are tried, whatever the suffix says: others (EPS) start programs or read no pixels (PDF, HDF5).
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "TGA")
SMALLEST = 8  # pixels a side: below this no network of the package has anything to convolve
PAUSE = 5.0  # seconds between two lines on how far reading is
SILENT: ContextVar[bool] = ContextVar("silent", default=False)  # where there are to be none
KINDS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
WORDS = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}
ALIAS = {"La": 2, "LA": 2, "1": 1, "L": 1, "RGB": 3, "RGBX": 3, "RGBA": 4, "RGBa": 4, "P": 3, "PA": 4}

Size = tuple[int, int]  # (H, W), everywhere but in calls of Pillow


class Part(NamedTuple):
    """One split: pixels (N, C, H, W) uint8 or float32 in [0, 1]; labels None or as `Images` has them."""

    pixels: np.ndarray
    labels: np.ndarray | None


@dataclass
class Found:
    """What a source holds. A missing `validation` or `test` is cut from `train` later."""

    source: str
    train: Part
    validation: Part | None = None
    test: Part | None = None
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    modes: Modes | None = None  # of points of a known mixture
    descriptors: list[str] | None = None  # names of the columns of labels that are descriptors
    names: list[str] | None = None  # of the images of train, validation and test in this order, where they are files
    fixed: bool = False  # cut by class with seed 0, whatever the user's seed: everyone's numbers compare


class Item(NamedTuple):
    """One encoded image: the name for messages, and its file or its bytes."""

    name: str
    data: Path | bytes | None


def reason(error: BaseException) -> str:
    """What went wrong, on one short line."""
    text = shown(error) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def natural(name: str) -> list:
    """Sort key that puts 'class2' before 'class10'."""
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", name) if piece]


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def in_threads(work: Callable, items: Sequence, chunk: int = 64, threads: int | None = None) -> list:
    """`[work(item) for item in items]` in a pool; chunks keep the pool's own cost below that of a tiny PNG."""
    threads = threads or min(32, os.cpu_count() or 1)
    if threads == 1:
        return [work(item) for item in items]
    pieces = [range(i, min(i + chunk, len(items))) for i in range(0, len(items), chunk)]
    with ThreadPoolExecutor(threads) as pool:
        try:
            return [result for piece in pool.map(lambda p: [work(items[i]) for i in p], pieces) for result in piece]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


# ---- one image --------------------------------------------------------------------------------------------------


class Bad(Exception):
    """This file cannot be used; the text says why. `--skip-bad` leaves it out."""


class ManySizes(InputError):
    """Images that have to be of one size are not: `what` there is, without what to do about it."""

    def __init__(self, what: str, remedy: str):
        super().__init__(f"{what}; {remedy}")
        self.what, self.remedy = what, remedy

    def __reduce__(self):  # it is told to other processes
        return ManySizes, (self.what, self.remedy)


class Probe(NamedTuple):
    """What the header of one image says."""

    size: Size  # upright, after EXIF orientation
    channels: int
    deep: bool  # 16-bit grey
    cut: bool  # 16 bits per colour channel, of which Pillow reads 8
    frames: bool = False  # more than one, of which the first is read


@cache
def _formats() -> list[str]:
    Image.init()  # without it Pillow knows five formats only
    return [name for name in FORMATS if name in Image.OPEN]  # a build of Pillow may lack AVIF


def _open(item: Item) -> Image.Image:
    if item.data is None or (isinstance(item.data, Path) and not os.path.isfile(item.data)):
        raise Bad("a broken link, or not a regular file")
    try:
        image = Image.open(io.BytesIO(item.data) if isinstance(item.data, bytes) else item.data, formats=_formats())
        if image.format == "TIFF":
            image.filename = ""  # by which Pillow maps one that is not compressed, and goes wrong where EXIF turns it
        return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Bad(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels (a decompression bomb?)") from None
    except Image.UnidentifiedImageError:
        raise Bad("not a readable image") from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise Bad(reason(error)) from None


def _turned(image: Image.Image, item: Item) -> bool:
    """Whether EXIF lays the image on its side."""
    if image.format == "TIFF":  # Pillow has turned it already
        return False
    if image.format == "PNG":  # asking a PNG for EXIF decodes it whole: ask only where there can be any
        data = item.data if isinstance(item.data, bytes) else Path(str(item.data)).read_bytes()
        if b"eXIf" not in data and b"rientation" not in data and b"Raw profile type" not in data:
            return False
    return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)


def _several(image: Image.Image) -> bool:
    """Whether there are more frames than the first. A camera's MPO adds previews, which are none."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # the next frame is damaged; the first may be whole
        return True


def probe(item: Item) -> Probe:
    """Size and kind from the header. Bad where the file cannot be used."""
    with _open(item) as image:
        try:
            width, height = image.size
            if _turned(image, item):
                width, height = height, width
            tiles = getattr(image, "tile", [])  # how Pillow unpacks the file, e.g. "RGB;16B"
            cut = "16" in str([tile[3] for tile in tiles]) and not image.mode.startswith("I")
            frames = _several(image)
        except Exception as error:
            raise Bad(reason(error)) from None
        if min(width, height) < SMALLEST:
            raise Bad(f"{height}x{width}, smaller than {SMALLEST} pixels a side")
        if image.mode.startswith("I"):
            return Probe((height, width), 1, True, False, frames)
        if image.mode not in ALIAS:
            raise Bad(f"colour mode {image.mode}: convert it to RGB or grey with an image editor")
        channels = ALIAS[image.mode]
        palette_alpha = image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")
        if channels in (1, 3) and ("transparency" in image.info or palette_alpha):
            channels += 1
        return Probe((height, width), channels, False, cut, frames)


def decode(item: Item, expected: Probe, size: Size, channels: int, deep: bool) -> np.ndarray:
    """The image as (channels, *size), uint8, or float32 in [0, 1] where `deep`. Bad where it cannot be decoded."""
    with _open(item) as image:
        try:
            drafted = image.format in ("JPEG", "MPO") and _draft(image, expected.size, size)
            ImageOps.exif_transpose(image, in_place=True)
            if expected.deep:
                array = _sixteen(image)
            else:
                mode = KINDS[expected.channels]
                image = image if image.mode == mode else image.convert(mode)
                array = np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)
        except Bad:
            raise
        except MemoryError:
            raise Bad("does not fit in memory when decoded") from None
        except Exception as error:
            raise Bad(reason(error)) from None
    if array.shape[:2] != expected.size and not drafted:
        raise Bad(f"decodes to {_by(array.shape[:2])}, its header says {_by(expected.size)}")
    array = to_channels(resize(array, size).transpose(2, 0, 1), channels)
    if deep and array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    return array


def _sixteen(image: Image.Image) -> np.ndarray:
    """16-bit grey as (h, w, 1) float32 in [0, 1]."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise Bad("32-bit values: save it with 8 or 16 bits, or pass an .npz with values in [0, 1]")
    return (values[:, :, None] / 65535).astype(np.float32)


def _draft(image: Image.Image, full: Size, size: Size) -> bool:
    """Let the JPEG decoder shrink by 2, 4 or 8 on the way, down to twice the size wanted: several times faster."""
    scale = 2 * max(size[0] / full[0], size[1] / full[1])
    if scale > 0.5 or image.mode not in ("L", "RGB"):
        return False
    image.draft(image.mode, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
    return True


def resize(array: np.ndarray, size: Size) -> np.ndarray:
    """(h, w, C) cropped at the centre to the aspect of `size`, then resampled to (H, W, C) (Lanczos, antialiased).

    Two and four channels are taken as grey or RGB with alpha: colour is weighted by it, so that hidden colours do not
    bleed in.
    """
    h, w, channels = array.shape
    height, width = size
    if (h, w) == size:
        return array
    if w * height > h * width:
        box_h, box_w = float(h), h * width / height
    else:
        box_h, box_w = w * height / width, float(w)
    top, left = (h - box_h) / 2, (w - box_w) / 2
    if box_h == height and box_w == width:  # only a crop: whole pixels, nothing blurred
        return array[int(top) : int(top) + height, int(left) : int(left) + width]
    box = (left, top, left + box_w, top + box_h)
    if array.dtype == np.uint8:
        image = Image.fromarray(array[:, :, 0] if channels == 1 else np.ascontiguousarray(array))
        small = image.resize((width, height), Image.Resampling.LANCZOS, box)
        return np.asarray(small).reshape(height, width, channels)
    alpha = array[:, :, -1:] if channels in (2, 4) else None
    if alpha is not None:
        array = np.concatenate([array[:, :, :-1] * alpha, alpha], 2)
    planes = [Image.fromarray(np.ascontiguousarray(array[:, :, c], dtype=np.float32)) for c in range(channels)]
    result = np.stack([np.asarray(p.resize((width, height), Image.Resampling.LANCZOS, box)) for p in planes], 2)
    if alpha is not None:
        result[:, :, :-1] /= np.maximum(result[:, :, -1:], 1e-6)
    return result.clip(0, 1)


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """(…, C, H, W) to (…, channels, H, W). Dropped alpha goes onto white, new alpha is opaque, grey is ITU-R 601."""
    have = pixels.shape[-3]
    if have == channels:
        return pixels
    white = 255 if pixels.dtype == np.uint8 else 1
    colour = pixels.astype(np.float32) / white
    alpha = None
    if have in (2, 4):
        colour, alpha = colour[..., :-1, :, :], colour[..., -1:, :, :]
        if channels in (1, 3):
            colour = colour * alpha + (1 - alpha)
    if colour.shape[-3] == 3 and channels < 3:
        weights = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
        colour = (colour * weights).sum(-3, keepdims=True)
    elif colour.shape[-3] == 1 and channels >= 3:
        colour = np.repeat(colour, 3, -3)
    if channels in (2, 4):
        colour = np.concatenate([colour, np.ones_like(colour[..., :1, :, :]) if alpha is None else alpha], -3)
    return (colour * 255).round().astype(np.uint8) if white == 255 else colour.clip(0, 1).astype(np.float32)


# ---- many images ------------------------------------------------------------------------------------------------


def read_images(
    items: Sequence[Item], where: object, image_size: Size | None, channels: int | None, skip_bad: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Decode `items` into one array.

    Returns pixels (N, C, H, W), uint8, or float32 in [0, 1] where any image has 16 bits; which items they are
    (N,) int64; and notes for the user. N < len(items) only with `skip_bad`.
    Raises InputError for unusable files without `skip_bad`, for mixed sizes without `image_size`, for want of memory.
    """
    from_disk = isinstance(items, list) and any(isinstance(item.data, Path) for item in items)  # not rows of one file
    probes = _attempt(probe, items, None if from_disk else 1, "headers read")
    _report_bad(items, probes, where, skip_bad)
    good = [i for i, p in enumerate(probes) if isinstance(p, Probe)]
    headers: list[Probe] = [probes[i] for i in good]
    size = image_size or _common_size(headers, where)
    native, notes = _common_kind(headers, channels)
    wanted = channels or native
    deep = any(p.deep for p in headers)
    pixels = room((len(good), wanted, *size), np.float32 if deep else np.uint8, where, notes)

    def fill(row: int) -> None:
        pixels[row] = decode(items[good[row]], headers[row], size, wanted, deep)

    small = sum(p.size[0] * p.size[1] for p in headers) < 128 * 128 * len(headers)
    many = None if from_disk else min(8, os.cpu_count() or 1)  # of a parquet file so many row groups are held
    done = _attempt(fill, range(len(good)), 1 if small else many, "images decoded")  # threads quarrel over tiny ones
    failed: list = list(probes)
    for row, i in enumerate(good):
        failed[i] = done[row]
    _report_bad(items, failed, where, skip_bad)
    bad = [i for i, f in enumerate(failed) if isinstance(f, Bad)]
    if bad:
        left_out = some([f"{items[i].name} ({failed[i]})" for i in bad])
        notes.append(f"{len(bad):,} of {len(items):,} images could not be used and were left out: {left_out}")
        kept = [row for row, f in enumerate(done) if not isinstance(f, Bad)]
        pixels, good = take(pixels, kept), [good[row] for row in kept]
    return pixels, np.array(good, np.int64), notes


def read_each(
    items: Sequence[Item], where: object, channels: int | None, skip_bad: bool, notes: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pixels (1, C, H, W) of one image after the other, each in its own size, all with as many channels; what is to
    be told of them goes to `notes`. InputError as for `read_images`, before the first one."""
    probes = _attempt(probe, items, None, "headers read")
    _report_bad(items, probes, where, skip_bad)
    native, more = _common_kind([p for p in probes if isinstance(p, Probe)], channels)
    notes += more

    def test(i: int) -> None:
        found = probes[i]
        if isinstance(found, Bad):
            raise found
        decode(items[i], found, found.size, channels or native, found.deep)

    tested = _attempt(test, range(len(items)), None, "images decoded")
    _report_bad(items, tested, where, skip_bad)
    bad = [f"{item.name} ({t})" for item, t in zip(items, tested, strict=True) if isinstance(t, Bad)]
    for item in [item for item, t in zip(items, tested, strict=True) if not isinstance(t, Bad)]:
        try:
            pixels, _, _ = read_images([item], where, None, channels or native, False)
        except InputError:  # it has changed meanwhile
            if not skip_bad:
                raise
            bad.append(item.name)
            continue
        yield item.name, pixels
    if bad:
        notes.append(f"{len(bad):,} of {len(items):,} images could not be used and were left out: {some(bad)}")


def _attempt(work: Callable, items: Sequence, threads: int | None, what: str) -> list:
    """The result of `work` for each item, or the Bad it raised; `what` is done then, for whoever waits."""
    tell = _teller(what, len(items))

    def one(item: object) -> object:
        try:
            return work(item)
        except Bad as error:
            return error
        except OSError as error:  # the file went away, or may not be read
            return Bad(reason(error))
        finally:
            tell()

    # Pillow warns of bombs and of damaged metadata: a bomb must stop, the rest is noise.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return in_threads(one, items, threads=threads)


@contextmanager
def silence(wanted: bool) -> Iterator[None]:
    """No lines of progress inside the block, where that is wanted."""
    token = SILENT.set(wanted or SILENT.get())
    try:
        yield
    finally:
        SILENT.reset(token)


def _teller(what: str, total: int) -> Callable[[], None]:
    """To be called for every image: how far it is, on stderr, now and then, from the first process of a machine."""
    last, count = time.monotonic(), itertools.count(1)
    silent = SILENT.get() or os.environ.get("LOCAL_RANK", "0") != "0"

    def tell() -> None:
        nonlocal last
        done = next(count)
        if not silent and time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return tell


def _report_bad(items: Sequence[Item], results: Sequence, where: object, skip_bad: bool) -> None:
    bad = [f"{items[i].name} ({r})" for i, r in enumerate(results) if isinstance(r, Bad)]
    if bad and len(bad) == len(items):
        raise InputError(f"{shown(where)}: none of the {len(items):,} images can be used: {some(bad)}")
    if bad and not skip_bad:
        count = "1 image" if len(bad) == 1 else f"{len(bad):,} images"
        raise InputError(
            f"{shown(where)}: {count} of {len(items):,} cannot be used: {some(bad)}; "
            "repair or remove them, or leave them out with --skip-bad"
        )


def _common_size(headers: Sequence[Probe], where: object) -> Size:
    counts = Counter(p.size for p in headers)
    common, times = counts.most_common(1)[0]
    if len(counts) == 1:
        return common
    area = sorted(counts, key=lambda s: (s[0] * s[1], s))
    square = 64 if min(common) >= 64 else 32
    raise ManySizes(
        f"{shown(where)}: images have {len(counts):,} sizes, from {_by(area[0])} to {_by(area[-1])} (height x width), "
        f"most often {_by(common)} ({times:,} of {len(headers):,})",
        f"add --image-size {square} or --image-size {_by(common)} to crop and resize them all",
    )


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _common_kind(headers: Sequence[Probe], channels: int | None) -> tuple[int, list[str]]:
    """The richest number of channels among the images, and notes on what is converted to it."""
    counts = Counter(p.channels for p in headers)
    colour = 3 if max(counts) >= 3 else 1
    native = colour + any(c in (2, 4) for c in counts)
    notes = []
    if len(counts) > 1 and channels is None:
        kinds = ", ".join(f"{counts[c]:,} {WORDS[c]}" for c in sorted(counts))
        notes.append(f"images of different kinds ({kinds}) were all converted to {WORDS[native]}")
    if channels in (1, 3) and native in (2, 4):
        notes.append("transparent parts were put on white")
    if frames := sum(p.frames for p in headers):
        notes.append(f"{frames:,} files have several frames, of which the first was read")
    if cut := sum(p.cut for p in headers):
        notes.append(f"{cut:,} images have 16 bits per colour channel and were read with 8")
    if 0 < (deep := sum(p.deep for p in headers)) < len(headers):
        notes.append(f"{deep:,} images have 16 bits, so all were converted to floating point")
    return native, notes
