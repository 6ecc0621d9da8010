"""Arrays, tensors, .npz, .npy and parquet: accepted forms, conversions, and refusals in one line."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from datasets import FULL, needs_full, refused
from latentforge.data import Batch, Dataset, Images, open_data
from latentforge.data import arrays as module
from latentforge.data.arrays import images_from_array, labels_from_array, read_numpy
from latentforge.data.dataset import _three, open_whole
from latentforge.data.decode import Found, Part
from latentforge.data.parquet import read_parquet
from latentforge.data.synthetic import blobs


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# ---- arrays


@pytest.mark.parametrize("shape", [(9, 10, 11), (9, 10, 11, 1), (9, 10, 11, 3), (9, 10, 11, 4), (9, 2, 10, 11)])
@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy])
def test_axes(shape, wrap):
    array = noise(*shape)
    pixels, notes = images_from_array(wrap(array), "a")
    if len(shape) == 3:
        wanted = array[:, None]
    else:
        wanted = array if shape[1] < 5 else array.transpose(0, 3, 1, 2)
    assert np.array_equal(pixels, wanted)
    assert notes == []


def test_types_agree_on_the_same_image():
    array = noise(9, 10, 11)
    wanted = array[:, None] / 255
    for given in (
        array.astype(np.int64),
        array.astype(np.int16),
        array.astype(np.uint32),
        array.astype(np.uint16) * 257,
        (array / 255).astype(np.float64),
        (array / 255).astype(np.float32),
        torch.from_numpy(array / 255).float().requires_grad_(),
        np.asfortranarray(array),
        array.astype(">u2") * 257,
    ):
        pixels, _ = images_from_array(given, "a")
        as_float = pixels / 255 if pixels.dtype == np.uint8 else pixels
        assert pixels.dtype in (np.uint8, np.float32)
        np.testing.assert_allclose(as_float, wanted, atol=1e-6)
    half, _ = images_from_array((array / 255).astype(np.float16), "a")
    np.testing.assert_allclose(half, wanted, atol=1e-3)
    brain, _ = images_from_array(torch.from_numpy(array / 255).bfloat16(), "a")
    np.testing.assert_allclose(brain, wanted, atol=4e-3)


def test_bool_and_dim_integers():
    pixels, _ = images_from_array(noise(9, 10, 10) > 127, "a")
    assert set(np.unique(pixels)) == {0, 255}
    pixels, notes = images_from_array((noise(9, 10, 10) > 127).astype(np.uint8), "a")
    assert pixels.max() == 1
    assert "nearly black" in notes[0]
    pixels, notes = images_from_array(noise(9, 10, 10).astype(np.uint16), "a")
    assert pixels.dtype == np.uint8
    assert "8-bit" in notes[0]
    pixels, notes = images_from_array(noise(9, 10, 10).astype(np.uint16) * 16, "a")  # of 12 bits
    assert pixels.max() < 0.1
    assert "nearly black" in notes[0]


def nan_at(*index: int) -> np.ndarray:
    array = np.zeros((9, 10, 10), np.float32)
    array[index] = np.nan
    return array


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (np.zeros((9, 64)), "reshape(-1"),
        (np.zeros(9), "not (N, H, W)"),
        (np.zeros((9, 10, 11, 5), np.uint8), "no axis of 1 to 4 channels"),
        (np.zeros((9, 3, 10, 10, 2), np.uint8), "not (N, H, W)"),
        (np.zeros((0, 10, 10), np.uint8), "no images"),
        (np.zeros((9, 10, 4), np.uint8), "smaller than 8"),
        (np.zeros((9, 3, 32, 3), np.uint8), "smaller than 8"),
        (np.full((9, 10, 10), 200.0), "divide by 255"),
        (np.linspace(-1, 1, 900).reshape(9, 10, 10), "(x + 1) / 2"),
        (np.full((9, 10, 10), -7.0), "rescale to [0, 1]"),
        (np.full((9, 10, 10), 256), "not in 0..255"),
        (np.full((9, 10, 10), -1), "not in 0..255"),
        (nan_at(4, 0, 0), "1 values are NaN or infinite, the first in image 4"),
        (np.full((9, 10, 10), np.inf), "900 values are NaN or infinite, the first in image 0"),
        (np.zeros((9, 10, 10), complex), "complex128"),
        (np.zeros((9, 10, 10), "U3"), "<U3"),
        (np.zeros((9, 10, 10), object), "Python objects"),
        (np.zeros((9, 10, 10), "datetime64[s]"), "datetime64"),
        (np.zeros((9, 10, 10), [("r", "u1")]), "values of type"),
        ([[1, 2], [3, 4]], "numpy.stack"),
        (17, "not int"),
        (torch.zeros(9, 10, 10).to_sparse(), "plain one"),
    ],
)
def test_bad_arrays(array, part):
    refused(lambda: open_data(array), part, "data")


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (np.zeros(9), "float64"),
        (np.zeros(8, int), "8 labels for 9 images"),
        (np.zeros((9, 2), int), "9x2"),
        (np.zeros((), int), "single number"),
        (np.array(list("abcdefgh")), "8 labels for 9 images"),
        (np.zeros((9, 2), "U1"), "9x2"),
        (np.full(9, 2**31 - 1, np.int32).view("U1"), "characters that do not exist"),
        (["cat"] * 8 + [float("nan")], "no value missing"),
        (np.zeros(9, bool), "bool"),
        (np.full(9, 2**64 - 1, np.uint64), "beyond"),
        ([0, 1, [2]], "one integer per image"),
        ("labels", "not str"),
    ],
)
def test_bad_labels(labels, part):
    refused(lambda: open_data((noise(9, 10, 10), labels)), part, "images (labels)")


def test_labels():
    assert labels_from_array(np.arange(9, dtype=np.uint8)[:, None], 9, "a").tolist() == list(range(9))
    data = open_data((noise(20, 10, 10), torch.arange(20) % 2))
    assert (data.num_classes, data.classes) == (2, None)
    data = open_data((noise(20, 10, 10), [3, 7] * 10))
    assert (data.num_classes, data.classes) == (2, ["3", "7"])
    assert set(data.train.labels.tolist()) == {0, 1}
    assert "renumbered" in data.notes[0]
    assert open_data((noise(20, 10, 10), None)).num_classes == 0


class Column:
    """What numpy can make an array of, as a column of pandas."""

    def __init__(self, values: list, kind: str | None = None):
        self.values, self.kind = values, kind

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if self.kind == "broken":
            raise TypeError("no array of this")
        return np.array(self.values, dtype or self.kind)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["b10", "b2"] * 10), ["b10", "b2"] * 10, Column(["b10", "b2"] * 10, "object"),
        np.array([["b10"], ["b2"]] * 10, object),
    ],
)  # fmt: skip
def test_texts_are_names_of_classes(labels):
    data = open_data((noise(20, 10, 10), labels))
    assert data.classes == ["b2", "b10"]
    everything = torch.cat([data.train.labels, data.validation.labels, data.test.labels])
    assert torch.bincount(everything).tolist() == [10, 10]
    found = module.parts_from_arrays({"train": (noise(20, 10, 10), labels, "a")}, "a", "a")
    assert found.train.labels.tolist() == [1, 0] * 10


def test_columns_of_a_table():
    data = open_data((noise(20, 10, 10), Column([3, 7] * 10)))
    assert (data.num_classes, data.classes) == (2, ["3", "7"])
    assert open_data(Column(noise(20, 10, 10).tolist(), "uint8")).image_shape == (1, 10, 10)
    refused(lambda: open_data((noise(9, 10, 10), Column([1, None] * 5, "object"))), "(labels)", "no value missing")
    refused(lambda: open_data((noise(9, 10, 10), Column([1] * 9, "broken"))), "(labels)", "no array of this")


def test_labels_stay_with_their_images():
    images = np.arange(200, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    data = open_data((images, np.arange(200) % 10), seed=3)
    for part in (data.train, data.validation, data.test):
        assert torch.equal(part.pixels[:, 0, 0, 0].long() % 10, part.labels)


def test_image_size_and_channels_of_arrays():
    data = open_data(noise(700, 20, 30, 3), image_size=16, channels=1)
    assert data.image_shape == (1, 16, 16)
    flat = open_data(np.full((9, 20, 30), 0.25), image_size=(8, 40), channels=3)
    assert flat.image_shape == (3, 8, 40)
    np.testing.assert_allclose(flat.train.pixels, 0.25, atol=1e-6)


def test_conform_keeps_the_order():
    images = np.arange(250, dtype=np.uint8).repeat(3)[:, None, None].repeat(20, 1).repeat(20, 2)
    part = module.conform(module.Part(images[:, None], None), (10, 10), None, "a", [])
    assert np.array_equal(part.pixels[:, 0, 5, 5], images[:, 0, 0])


def test_a_data_set_comes_back_unchanged():
    data = open_data(noise(20, 10, 10))
    assert open_data(data) is data
    assert open_data(data, image_size=10, channels=1) is data
    refused(lambda: open_data(data, image_size=12), "array", "1x10x10")


def test_given_arrays_are_neither_changed_nor_shared():
    array = np.random.default_rng(0).random((20, 10, 10)).astype(np.float32)
    before = array.copy()
    data = open_data(array)
    data.train.pixels.zero_()
    assert np.array_equal(array, before)


def test_bad_tuples_and_seed():
    refused(lambda: open_data((noise(9, 10, 10),)), "(images, labels)", "data")
    refused(lambda: open_data(noise(9, 10, 10), seed=-1), "seed -1")


# ---- splits and fingerprint


@pytest.mark.parametrize(("n", "sizes"), [(8, (6, 1, 1)), (14, (12, 1, 1)), (16, (12, 2, 2)), (1000, (800, 100, 100))])
def test_split_sizes(n, sizes):
    parts = _three(Found("x", Part(np.arange(n).reshape(n, 1, 1, 1), None)), "x", 0, None)
    assert tuple(len(parts[k]) for k in ("train", "validation", "test")) == sizes
    assert sorted(torch.cat([p.pixels for p in parts.values()]).flatten().tolist()) == list(range(n))


def test_split_by_strata():
    labels = np.repeat(np.arange(4), [100, 50, 200, 10])
    parts = _three(Found("x", Part(np.zeros((360, 1, 8, 8), np.uint8), labels)), "x", 5, labels)
    counts = {name: np.bincount(p.labels).tolist() for name, p in parts.items()}
    assert counts == {"train": [80, 40, 160, 8], "validation": [10, 5, 20, 1], "test": [10, 5, 20, 1]}


def test_a_class_that_a_part_lacks_is_named():
    """One image of a class is in one part of three; with a hundred of each none is missing."""
    images, rare = noise(200, 10, 10), np.where(np.arange(200) == 77, "rare", "usual")
    found = [note for note in open_data((images, rare)).notes if "no image of class rare is in" in note]
    assert len(found) == 2
    assert all("--data-seed" in note for note in found)
    assert open_data((images, np.arange(200) % 2)).notes == []


def test_splits_of_ones_own_are_looked_at():
    x, y = torch.rand(9, 1, 8, 8), torch.arange(9)
    good = Images(x, y)
    for wrong, part in (
        (Images(255 * x), "[0, 1]"), (Images((255 * x).long()), "int64"), (Images(x[:, 0]), "(9, 8, 8)"),
        (Images(x, y[:5]), "5 labels for 9"),
    ):  # fmt: skip
        refused(lambda w=wrong: Dataset("a", "my images", good, w, good), "my images, validation", part)


def test_rows_of_a_split_by_number_slice_and_array():
    images = Images(torch.rand(5, 1, 2, 2), torch.arange(5))
    for index, rows in (
        (3, [3]), (-1, [4]), (slice(1, 4), [1, 2, 3]), (np.array([4, 0]), [4, 0]), ([2], [2]), (torch.tensor([1]), [1]),
    ):  # fmt: skip
        batch = images[index]
        assert batch.index.tolist() == batch.label.tolist() == rows
        assert torch.equal(batch.image, images.pixels[rows])
    assert [int(batch.label) for batch in images] == [0, 1, 2, 3, 4]


def test_a_split_of_a_derived_class_stays_one_on_a_device():
    class Turned(Images):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            return Batch(batch.image.flip(3), batch.label, batch.index)

    x = torch.rand(5, 1, 2, 2)
    assert torch.equal(Turned(x).to("cpu")[:2].image, x[:2].flip(3))


def test_fingerprint_sees_every_change():
    def data(pixels: np.ndarray, labels: list[int] | None = None) -> str:
        y = None if labels is None else torch.tensor(labels)
        part = Images(torch.from_numpy(pixels), y)
        return Dataset("a", "b", part, part, part).fingerprint

    base = noise(2, 1, 8, 8)
    other = base.copy()
    other[1, 0, 7, 7] ^= 1
    prints = [
        data(base),
        data(other),
        data(base.reshape(2, 1, 4, 16)),
        data((base / 255).astype(np.float32)),
        data(base, [0, 1]),
        data(base, [1, 0]),
    ]
    assert len(set(prints)) == len(prints)
    assert data(base.copy()) == prints[0]
    assert len(prints[0]) == 16


# ---- npz and npy


def test_npz_pairs(tmp_path):
    images, labels = noise(20, 10, 10), np.arange(20) % 4
    for i, (x, y) in enumerate((("images", "labels"), ("x", "y"), ("arr_0", "arr_1"), ("x_train", "y_train"))):
        path = tmp_path / f"{i}.npz"
        np.savez(path, **{x: images, y: labels})
        found = read_numpy(path)
        assert np.array_equal(found.train.pixels[:, 0], images)
        assert np.array_equal(found.train.labels, labels)
        assert found.notes == []
    np.savez(path, images)
    assert read_numpy(path).train.labels is None


def test_npz_with_its_own_splits(tmp_path):
    path = tmp_path / "med.npz"
    np.savez_compressed(
        path,
        train_images=noise(20, 10, 10),
        train_labels=np.arange(20)[:, None] % 2,
        val_images=noise(3, 10, 10),
        val_labels=np.ones((3, 1), np.uint8),
        test_images=noise(4, 10, 10),
        test_labels=np.zeros((4, 1), np.uint8),
        info=np.zeros(3),
    )
    data = open_data(path)
    assert (len(data.train), len(data.validation), len(data.test), data.num_classes) == (20, 3, 4, 2)
    assert data.validation.labels.tolist() == [1, 1, 1]
    assert data.notes == ["arrays of med.npz that were ignored: info"]
    assert data.source == str(path.resolve())
    np.savez(path, x_train=noise(20, 10, 10), x_test=noise(4, 10, 10))
    data = open_data(path)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 4)


def test_texts_of_splits_are_numbered_together(tmp_path):
    path = tmp_path / "a.npz"
    x = noise(4, 10, 10)
    np.savez(path, x_train=x, y_train=np.array(["a", "c", "c", "a"]), x_test=x, y_test=np.array(["c", "a", "a", "c"]))
    found = read_numpy(path)
    assert found.classes == ["a", "c"]
    assert (found.train.labels.tolist(), found.test.labels.tolist()) == ([0, 1, 1, 0], [1, 0, 0, 1])
    np.savez(path, images=x, labels=np.array(["c", "a", "a", "c"]), classes=np.array(["c", "b", "a"]))
    found = read_numpy(path)
    assert (found.classes, found.train.labels.tolist()) == (["c", "b", "a"], [0, 2, 2, 0])
    np.savez(path, images=x, labels=np.array(["c", "d", "a", "c"]), classes=np.array(["c", "b", "a"]))
    refused(lambda: read_numpy(path), path, "no names of classes: d")
    np.savez(path, x_train=x, y_train=np.array(["a", "c", "c", "a"]), x_test=x, y_test=np.arange(4))
    refused(lambda: read_numpy(path), path, "train texts, test classes")


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", noise(20, 10, 10, 3))
    data = open_data(tmp_path / "a.npy")
    assert data.name == "a"
    assert data.image_shape == (3, 10, 10)


def test_bad_npz(tmp_path):
    path = tmp_path / "a.npz"

    def check(*parts: object, **arrays: np.ndarray) -> None:
        np.savez(path, **arrays)
        refused(lambda: open_data(path), path, *parts)

    x = noise(20, 10, 10)
    check("state, dt", "images/labels", state=np.zeros(3), dt=np.zeros(1))
    check("[x]", "divide by 255", x=x.astype(float))
    check("[images] (labels)", "19 labels", images=x, labels=np.zeros(19, int))
    check("different types", x_train=x, x_test=x / 255)
    check("different shapes", "1x10x10", "1x12x12", "--image-size 10x10", x_train=x, x_test=noise(9, 12, 12))
    check("no labels for test", x_train=x, y_train=np.zeros(20, int), x_test=x)
    check("y_test but no x_test", x_train=x, y_test=np.zeros(20, int))
    np.savez(path, x_train=x, x_test=noise(9, 12, 12))
    assert open_data(path, image_size=8).image_shape == (1, 8, 8)


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for name in ("a.npz", "a.npy"):
        with open(tmp_path / name, "wb") as file:
            (np.savez if name == "a.npz" else np.save)(file, np.array([Bomb()] * 9, object))
        refused(lambda name=name: open_data(tmp_path / name), tmp_path / name, "Python objects")
    (tmp_path / "b.npy").write_bytes(__import__("pickle").dumps(Bomb()))
    refused(lambda: open_data(tmp_path / "b.npy"), tmp_path / "b.npy")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_damaged_numpy_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with path.open("wb") as file:
        (np.savez if suffix == "npz" else np.save)(file, noise(20, 10, 10))
    whole = path.read_bytes()
    for data in (b"", whole[:50], whole[: len(whole) // 2], b"\0" * 500, whole[:300] + b"\xff" * 100 + whole[400:-30]):
        path.write_bytes(data)
        refused(lambda: open_data(path), path)
    path.unlink()
    refused(lambda: open_data(path), path)


def test_zip_bomb(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * 10_000_000)
    monkeypatch.setattr("latentforge.data.room.available_memory", lambda: 1_000_000)
    refused(lambda: open_data(path), path, "memory")


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_arrays_must_fit_twice(tmp_path, monkeypatch, suffix):
    """Cutting them into splits copies them. What else is in the file is not read."""
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez(path, images=noise(20, 10, 10), other=np.zeros(10_000))
    else:
        np.save(path, noise(20, 10, 10))
    for free in (5000, 3000):
        monkeypatch.setattr("latentforge.data.room.available_memory", lambda free=free: free)
        if free == 5000:
            assert len(open_data(path).train) == 16
        else:
            assert "--image-size" not in refused(lambda: open_data(path), path, "memory", "a folder or .parquet")


@pytest.mark.parametrize(
    "data", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", b"1,2,3\n" * 99]
)
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_what_is_no_numpy_file_is_not_said_to_hold_objects(tmp_path, data, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    refused(lambda: open_data(path), path, "is no numpy file", data[:6].decode().strip() or "it is empty")


@pytest.mark.parametrize(("labels", "told"), [([0, 2, -1], "-1"), ([0, 3, 1], "label 3"), ([0, 1, -2], "label -2")])
def test_names_of_classes_in_a_file(tmp_path, labels, told):
    """They keep the numbers of all classes, those without images too; -1 is no class, and any other needs a name."""
    path = tmp_path / "x.npz"
    np.savez(path, images=noise(3, 10, 10), labels=np.array(labels), classes=np.array(["a", "b", "c"]))
    if min(labels) < -1 or max(labels) > 2:
        refused(lambda: read_numpy(path), told)
        return
    found = read_numpy(path)
    assert found.classes == ["a", "b", "c"]
    assert found.train.labels.tolist() == labels
    assert told in " ".join(found.notes)


# ---- parquet


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "png")
    return out.getvalue()


def parquet(path: Path, blobs: list, names: list[str] | None = None, binary: bool = False, **columns: list) -> Path:
    images = blobs if binary else [{"bytes": b, "path": None} for b in blobs]
    kind = pa.binary() if binary else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), **columns})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=7)
    return path


@pytest.mark.parametrize("binary", [False, True])
def test_parquet(tmp_path, binary):
    arrays = noise(20, 10, 12, 3)
    path = parquet(tmp_path / "a.parquet", [png(a) for a in arrays], ["x", "y"], binary, label=[0, 1] * 10)
    found = read_parquet(path)
    assert np.array_equal(found.train.pixels, arrays.transpose(0, 3, 1, 2))
    assert found.train.labels.tolist() == [0, 1] * 10
    assert found.classes == ["x", "y"]
    data = open_data(path, image_size=8, channels=1)
    assert data.image_shape == (1, 8, 8)
    assert data.num_classes == 2


def test_parquet_labels(tmp_path):
    blobs = [png(a) for a in noise(20, 10, 12)]
    assert read_parquet(parquet(tmp_path / "a.parquet", blobs)).train.labels is None
    found = read_parquet(parquet(tmp_path / "a.parquet", blobs, fine_label=[5, 9] * 10))
    assert found.classes == ["5", "9"]
    found = read_parquet(parquet(tmp_path / "a.parquet", blobs, **{"class": ["c10", "c9"] * 10}))
    assert found.classes == ["c9", "c10"]
    assert found.train.labels.tolist() == [1, 0] * 10


def test_bad_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    good = [png(a) for a in noise(20, 10, 12)]

    def check(*parts: object, **options: object) -> None:
        refused(lambda: open_data(path, **options), path, *parts)

    parquet(path, [*good, png(noise(30, 30))])
    check("2 sizes", "10x12 (20 of 21)", "--image-size 10x12")
    parquet(path, [*good, None, b"", b"text"])
    check("3 images of 23", "row 20", "--skip-bad")
    assert len(open_data(path, skip_bad=True).train) == 16
    parquet(path, [None, *good])
    assert open_whole(path, skip_bad=True).names == [str(i) for i in range(1, 21)]  # of the rows in the file
    parquet(path, good, ["only one"], label=[0, 1] * 10)
    check("values from 0 to 1 for 1 class names")
    parquet(path, good, label=[None, 1] * 10)
    check("10 empty rows")
    parquet(path, good, label=[0.5, 1.0] * 10)
    check("float64", "'label'")
    parquet(path, [])
    check("no rows")
    pq.write_table(pa.table({"pixels": [1], "label": [2]}), path)
    check("pixels (int64), label (int64)", "'image'")
    pq.write_table(pa.table({"image": ["a.png"]}), path)
    check("image (string)")
    parquet(path, good)
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:-40], whole[:1000], whole[:100] + b"\xff" * 400 + whole[500:]):
        path.write_bytes(data)
        check()


# ---- synthetic and real


def test_blobs():
    images, labels = blobs(60, (3, 20, 16), seed=1)
    assert (images.shape, images.dtype) == ((60, 3, 20, 16), np.uint8)
    assert set(labels.tolist()) == {0, 1, 2}
    assert np.array_equal(images, blobs(60, (3, 20, 16), seed=1)[0])
    assert not np.array_equal(images, blobs(60, (3, 20, 16), seed=2)[0])
    assert images.reshape(60, -1).max(1).min() > 100  # each shows something
    bright = images.sum(1) > images.sum(1).max((1, 2), keepdims=True) / 2
    width, height = bright.any(1).sum(1) / 16, bright.any(2).sum(1) / 20
    assert (width[labels == 1] > 1.3 * height[labels == 1]).all()
    assert (height[labels == 2] > 1.3 * width[labels == 2]).all()


@needs_full
def test_pneumoniamnist():
    data = open_data(FULL / "pneumoniamnist" / "pneumoniamnist.npz")
    assert (len(data.train), len(data.validation), len(data.test)) == (4708, 524, 624)
    assert torch.bincount(data.train.labels).tolist() == [1214, 3494]
    assert torch.bincount(data.test.labels).tolist() == [234, 390]


@needs_full
def test_measured_states_are_not_images():
    path = FULL / "pendulum" / "single.npz"
    refused(lambda: open_data(path), path, "state")


def test_rows_of_a_parquet_file_may_have_no_class(tmp_path):
    """-1 beside names, as in files of Hugging Face whose labels are held back."""
    arrays = noise(40, 8, 8)
    labels = [0, 1, -1, -1] * 10
    path = parquet(tmp_path / "a.parquet", [png(a) for a in arrays], ["x", "y"], label=labels)
    data = open_data(str(path))
    assert data.classes == ["x", "y"]
    assert int((data.train.labels < 0).sum()) == 20
    assert any("20" in note for note in data.notes)
