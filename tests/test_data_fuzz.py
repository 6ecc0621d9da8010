"""Whatever the file or the array: a data set, or an InputError on one line. Nothing else, and soon."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from latentforge.data import open_data
from latentforge.data.dataset import Dataset
from latentforge.data.named import read_cifar_tar, read_idx
from latentforge.errors import InputError

IMAGE = np.random.default_rng(0).integers(0, 256, (10, 11, 3), dtype=np.uint8)


def few(n: int):
    return settings(
        max_examples=n, deadline=5000, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )


def fits(call, where: str):
    """The result of `call`, or None where it is refused as it should be."""
    try:
        return call()
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert where in message
    return None


def check(data: Dataset | None) -> None:
    if data is None:
        return
    for part in (data.train, data.validation, data.test):
        assert part.shape == data.image_shape
        assert len(part) >= 1
        pixels = part.pixels.double()
        assert pixels.isfinite().all()
        assert 0 <= pixels.min() <= pixels.max() <= (255 if str(part.pixels.dtype) == "torch.uint8" else 1)
        if data.num_classes:
            assert -1 <= part.labels.min() <= part.labels.max() < data.num_classes


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "npz":
        np.savez(out, images=np.stack([IMAGE] * 9), labels=np.arange(9))
    elif kind == "npz compressed":
        np.savez_compressed(out, x=np.stack([IMAGE] * 9))
    elif kind == "npy":
        np.save(out, np.stack([IMAGE] * 9))
    elif kind == "parquet":
        images = [{"bytes": encoded("png"), "path": "a"}] * 9
        pq.write_table(pa.table({"image": images, "label": list(range(9))}), out)
    elif kind == "gif":
        frame = Image.fromarray(IMAGE)
        frame.save(out, kind, save_all=True, append_images=[frame.rotate(90)])
    else:
        Image.fromarray(IMAGE).save(out, kind)
    return out.getvalue()


# A valid file, bytes overwritten at a few places, and cut: deeper into the parsers than noise ever gets.
damage = st.tuples(
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=8)), max_size=4),
    st.none() | st.integers(0, 3000),
)


def damaged(data: bytes, how) -> bytes:
    edits, cut = how
    out = bytearray(data)
    for at, new in edits:
        at %= len(out)
        out[at : at + len(new)] = new
    return bytes(out if cut is None else out[: cut % len(out)])


IMAGES = {kind: encoded(kind) for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm", "tga", "jpeg2000")}
FILES = {kind: encoded(kind) for kind in ("npz", "npz compressed", "npy", "parquet")}


@few(120)
@given(data=st.data())
def test_damaged_images(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("images")
    kind = data.draw(st.sampled_from(sorted(IMAGES)))
    for i in range(9):
        (folder / f"{i}.png").write_bytes(IMAGES[kind])
    noise = data.draw(st.binary(max_size=200) | damage)
    (folder / "odd.png").write_bytes(noise if isinstance(noise, bytes) else damaged(IMAGES[kind], noise))
    check(fits(lambda: open_data(folder), folder.name))
    read = fits(lambda: open_data(folder, skip_bad=True, image_size=8), folder.name)
    assert read is not None  # the nine good images are enough
    check(read)


@few(150)
@given(data=st.data())
def test_damaged_files(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("files")
    kind = data.draw(st.sampled_from(sorted(FILES)))
    path = folder / f"x.{kind.split()[0]}"
    noise = data.draw(st.binary(max_size=300) | damage)
    path.write_bytes(noise if isinstance(noise, bytes) else damaged(FILES[kind], noise))
    check(fits(lambda: open_data(path), path.name))


@few(60)
@given(noise=st.binary(max_size=200) | damage)
def test_damaged_idx_and_archives(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("idx") / "x.gz"
    good = gzip.compress(b"\0\0\x08\x01\0\0\0\x05abcde", mtime=0)
    for content in (noise, gzip.compress(noise)) if isinstance(noise, bytes) else (damaged(good, noise),):
        path.write_bytes(content)
        read = fits(lambda: read_idx(path, 5, (), "5b6f4b1b1f6f1dcd6e0b3b0a0ad1f0a5"), path.name)
        assert read is None  # that is not the md5 of anything here
        assert fits(lambda: read_cifar_tar(path, 2), path.name) is None


shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=12) | st.sampled_from(
    [(9, 10, 11), (9, 10, 11, 3), (9, 1, 10, 11), (8, 8, 8), (9, 10, 11, 4)]
)
dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes()
    | hnp.datetime64_dtypes()
    | hnp.byte_string_dtypes(max_len=3)
    | hnp.unicode_string_dtypes(max_len=3)
    | st.just(np.dtype(object))
    | st.just(np.dtype([("a", "u1")]))
)


def arrays(shape: tuple, dtype: np.dtype, seed: int) -> np.ndarray:
    """Random bytes under any type; for floats as often values that are nearly right."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "O":
        return np.full(shape, None)
    if dtype.kind == "f" and seed % 2:
        return (rng.random(shape) * (1 if seed % 3 else 255)).astype(dtype)
    count = int(np.prod(shape))
    return np.frombuffer(rng.bytes(max(count, 1) * dtype.itemsize), dtype)[:count].reshape(shape)


@few(300)
@given(shape=shapes, dtype=dtypes, seed=st.integers(0, 100), size=st.sampled_from([None, 8, (9, 20)]))
def test_random_arrays(shape, dtype, seed, size):
    check(fits(lambda: open_data(arrays(shape, dtype, seed), image_size=size, channels=seed % 5 or None), "data"))


@few(150)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=2, max_side=9), dtype=dtypes, seed=st.integers(0, 100))
def test_random_labels(shape, dtype, seed):
    pixels = np.zeros((9, 8, 8), np.uint8)
    for form in (shape, (9,), (9, 1)):
        labels = arrays(form, dtype, seed)
        data = fits(lambda labels=labels: open_data((pixels, labels)), "images")
        check(data)
        assert (
            data is None
            or (labels.dtype.kind in "iuU" and labels.size == 9)
            or (labels.dtype.kind == "f" and len(labels) == 9 and data.num_classes == 0)
        )


@few(100)
@given(text=st.text(max_size=40))
def test_random_words(text):
    data = fits(lambda: open_data(text + "?"), "")
    assert data is None
