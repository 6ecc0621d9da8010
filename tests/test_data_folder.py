"""Folders of images: what is read, how it is converted, and what is refused in one line."""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import FULL, needs_full, refused
from latentforge.data import decode, open_data, room
from latentforge.data.decode import resize, to_channels
from latentforge.data.folder import read_folder, scan
from latentforge.data.synthetic import blobs


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fill(folder: Path, n: int, *shape: int, **options: object) -> np.ndarray:
    arrays = noise(n, *shape)
    for i, array in enumerate(arrays):
        save(folder / f"{i}.png", array, **options)
    return arrays


# ---- what is read


def test_flat_folder_keeps_every_pixel(tmp_path):
    arrays = fill(tmp_path, 20, 12, 9, 3)
    found = read_folder(tmp_path)
    assert found.train.pixels.dtype == np.uint8
    assert np.array_equal(found.train.pixels, arrays.transpose(0, 3, 1, 2))  # natural order: 2 before 10
    assert found.train.labels is None
    assert found.classes is None
    assert found.notes == []


def test_larger_images_in_threads_keep_their_order(tmp_path):
    arrays = fill(tmp_path, 70, 140, 130, compress_level=1)
    (tmp_path / "65.png").write_bytes((tmp_path / "65.png").read_bytes()[:9000])
    refused(lambda: read_folder(tmp_path), tmp_path, "1 image of 70", "65.png")
    found = read_folder(tmp_path, skip_bad=True)
    assert np.array_equal(found.train.pixels[:, 0], np.delete(arrays, 65, 0))


def test_splits_of_own_data(tmp_path):
    fill(tmp_path, 20, 12, 9, 3)
    data = open_data(tmp_path, seed=1)
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 2, 2)
    assert data.image_shape == (3, 12, 9)
    assert data.num_classes == 0
    everything = torch.cat([data.train.pixels, data.validation.pixels, data.test.pixels]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == 20
    assert open_data(str(tmp_path), seed=1).fingerprint == data.fingerprint
    assert open_data(tmp_path, seed=2).fingerprint != data.fingerprint


def test_class_folders_in_natural_order(tmp_path):
    for name, n in (("class10", 3), ("class2", 5), ("class1", 4)):
        fill(tmp_path / name, n, 10, 10)
    found = read_folder(tmp_path)
    assert found.classes == ["class1", "class2", "class10"]
    assert found.train.labels.tolist() == [0] * 4 + [1] * 5 + [2] * 3
    assert open_data(tmp_path).num_classes == 3


def test_single_sub_folder_is_no_class(tmp_path):
    fill(tmp_path / "archive" / "images", 9, 10, 10)
    found = read_folder(tmp_path)
    assert found.train.labels is None
    assert "single sub-folder" in found.notes[0]


def test_single_sub_folder_with_classes_below(tmp_path):
    fill(tmp_path / "archive" / "cat", 5, 10, 10)
    fill(tmp_path / "archive" / "dog", 5, 10, 10)
    assert read_folder(tmp_path).classes == ["cat", "dog"]


def test_sub_folders_of_a_class_are_told(tmp_path):
    for name in ("cat/black", "cat/white", "dog/all"):
        fill(tmp_path / name, 4, 10, 10)
    found = read_folder(tmp_path)
    assert found.classes == ["cat", "dog"]
    assert found.notes == [
        f"folders that hold several sub-folders of images were read as one class each: {tmp_path / 'cat'}"
    ]


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("train", "valid", "test"), ("Train", "validation", "Test"), ("training", "Valid", "testing"),
     ("Training", "eval", "Testing")],
)  # fmt: skip
def test_split_folders_are_kept(tmp_path, train, validation, test):
    for i, (split, n) in enumerate(((train, 12), (validation, 3), (test, 4))):
        fill(tmp_path / split / "a", n, 10, 10)
        save(tmp_path / split / "b" / "x.png", np.full((10, 10), i, np.uint8))
    data = open_data(tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (13, 4, 5)
    assert data.classes == ["a", "b"]
    for i, part in enumerate((data.train, data.validation, data.test)):
        assert part.labels.tolist() == [0] * (len(part) - 1) + [1]
        assert (part.pixels[-1] == i).all()


def test_missing_split_is_cut_from_train(tmp_path):
    fill(tmp_path / "train", 20, 10, 10)
    fill(tmp_path / "test", 3, 10, 10)
    data = open_data(tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 3)


def test_a_later_split_may_lack_a_class(tmp_path):
    for name in ("a", "b", "c"):
        fill(tmp_path / "train" / name, 4, 10, 10)
    fill(tmp_path / "test" / "c", 2, 10, 10)
    data = open_data(tmp_path)
    assert data.test.labels.tolist() == [2, 2]


def test_a_class_called_train(tmp_path):
    for name in ("car", "plane", "train"):
        fill(tmp_path / name, 4, 10, 10)
    assert read_folder(tmp_path).classes == ["car", "plane", "train"]


def test_hidden_and_other_files(tmp_path):
    fill(tmp_path, 9, 10, 10)
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "list.csv").write_text("x")
    found = read_folder(tmp_path)
    assert len(found.train.pixels) == 9
    assert found.notes == ["2 files that are not images were ignored (.csv, .txt)"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path / "real", 9, 10, 10)
    folder = tmp_path / "data"
    folder.mkdir()
    for file in (tmp_path / "real").iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "loop").symlink_to(folder)
    assert len(read_folder(folder).train.pixels) == 9


def test_of_a_plain_file_the_disk_is_not_asked_what_it_is(tmp_path, monkeypatch):
    fill(tmp_path / "a", 9, 10, 10)
    fill(tmp_path / "b", 9, 10, 10)
    asked, isdir = [], os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: (asked.append(Path(path).name), isdir(path))[1])
    assert scan(tmp_path).count() == 18
    assert set(asked) <= {"a", "b"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    fill(tmp_path, 9, 10, 10)
    os.mkfifo(tmp_path / "pipe.png")
    refused(lambda: read_folder(tmp_path), "pipe.png (a broken link, or not a regular file)")


def test_who_waits_for_images_is_told_how_far_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decode, "PAUSE", 0.0)
    fill(tmp_path, 9, 10, 10)
    read_folder(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert "headers read: 9 of 9" in lines
    assert lines[-1] == "images decoded: 9 of 9"
    monkeypatch.setenv("LOCAL_RANK", "1")
    read_folder(tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("LOCAL_RANK")
    with decode.silence(True):
        read_folder(tmp_path)
    assert capsys.readouterr().err == ""


# ---- how it is converted


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4), ("P", 3), ("I;16", 1)]
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colour_modes(tmp_path, mode, channels, suffix):
    for i in range(8):
        if mode == "I;16":
            save(tmp_path / f"{i}.{suffix}", noise(10, 11).astype(np.uint16) * 257)
        else:
            save(tmp_path / f"{i}.{suffix}", noise(10, 11, 3), mode)
    pixels = read_folder(tmp_path).train.pixels
    assert pixels.shape == (8, channels, 10, 11)
    if mode == "I;16":
        assert pixels.dtype == np.float32
        np.testing.assert_allclose(pixels[0, 0], noise(10, 11) / 255, atol=1e-6)
    elif mode != "P":
        with Image.open(tmp_path / f"0.{suffix}") as image:
            wanted = np.asarray(image.convert("L") if mode == "1" else image).reshape(10, 11, -1)
        assert np.array_equal(pixels[0], wanted.transpose(2, 0, 1))


def test_palette_with_transparency_is_rgba(tmp_path):
    image = Image.fromarray(noise(10, 10, 3)).quantize(16)
    image.save(tmp_path / "0.png", transparency=3)
    assert read_folder(tmp_path).train.pixels.shape == (1, 4, 10, 10)


def test_mixed_modes_become_the_richest(tmp_path):
    save(tmp_path / "0.png", np.full((8, 8), 51, np.uint8))
    save(tmp_path / "1.png", np.full((8, 8, 3), 102, np.uint8))
    found = read_folder(tmp_path)
    assert found.train.pixels.shape == (2, 3, 8, 8)
    assert (found.train.pixels[0] == 51).all()
    assert found.notes == ["images of different kinds (1 grey, 1 RGB) were all converted to RGB"]
    save(tmp_path / "2.png", np.full((8, 8, 4), 7, np.uint8))
    found = read_folder(tmp_path)
    assert found.train.pixels.shape == (3, 4, 8, 8)
    assert (found.train.pixels[1, 3] == 255).all()
    assert read_folder(tmp_path, channels=1).train.pixels.shape == (3, 1, 8, 8)
    assert any("on white" in note for note in read_folder(tmp_path, channels=3).notes)


def test_sixteen_and_eight_bits_together(tmp_path):
    save(tmp_path / "0.png", np.full((8, 8), 65535, np.uint16))
    save(tmp_path / "1.png", np.full((8, 8), 51, np.uint8))
    found = read_folder(tmp_path)
    assert found.train.pixels.dtype == np.float32
    np.testing.assert_allclose(found.train.pixels[:, 0, 0, 0], [1, 0.2], atol=1e-6)
    assert "floating point" in found.notes[0]


def test_sixteen_bit_colour_is_told(tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + b"\x80\x01" * 3 * 9 for _ in range(9))
    header = struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    found = read_folder(tmp_path)
    assert (found.train.pixels == 128).all()
    assert "16 bits per colour channel" in found.notes[0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_exif_orientation(tmp_path, suffix, orientation, mode):
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255  # a mark in the top left corner
    turned = np.rot90(upright, 2 if orientation == 3 else 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for i in range(2):
        save(tmp_path / f"{i}.{suffix}", np.ascontiguousarray(turned), mode, exif=exif)
    pixels = read_folder(tmp_path).train.pixels
    assert pixels.shape == (2, 1 if mode == "L" and suffix != "webp" else 3, 16, 24)
    assert np.abs(pixels[0].astype(int) - upright).max() < 40


def test_png_with_exif_after_the_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "0.png", noise(24, 16), exif=exif)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    stop = data.index(b"IEND") - 4
    path.write_bytes(data[:start] + data[end:stop] + data[start:end] + data[stop:])
    assert read_folder(tmp_path).train.pixels.shape == (1, 1, 16, 24)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "png", "webp"):
        frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    pixels = read_folder(tmp_path, channels=3).train.pixels
    assert len(pixels) == 3
    assert (pixels == np.array([255, 0, 0], np.uint8)[:, None, None]).all()


def test_image_size_crops_at_the_centre(tmp_path):
    array = np.zeros((40, 100, 3), np.uint8)
    array[:, 30:70] = 200  # all that a square crop may show
    save(tmp_path / "0.png", array)
    save(tmp_path / "1.png", array.transpose(1, 0, 2))
    pixels = read_folder(tmp_path, image_size=(20, 20)).train.pixels
    assert pixels.shape == (2, 3, 20, 20)
    assert (pixels[:, :, 3:-3, 3:-3] == 200).all()
    assert pixels.min() > 150  # the filter may reach a little beyond the crop
    assert read_folder(tmp_path, image_size=(10, 30)).train.pixels.shape == (2, 3, 10, 30)


def test_resize_agrees_with_area_means_on_smooth_images():
    y, x = np.mgrid[0:64, 0:64] / 64
    smooth = ((np.sin(3 * x) * np.cos(2 * y) + 1) * 127).astype(np.uint8)[:, :, None]
    wanted = smooth[:, :, 0].reshape(16, 4, 16, 4).mean((1, 3))
    assert np.abs(resize(smooth, (16, 16))[:, :, 0] - wanted).max() < 3
    as_float = resize((smooth / 255).astype(np.float32), (16, 16))
    assert np.abs(as_float[:, :, 0] * 255 - wanted).max() < 3


def test_hidden_colours_do_not_bleed_in():
    array = np.zeros((32, 32, 4), np.uint8)
    array[:, :16] = (255, 0, 0, 255)
    array[:, 16:] = (0, 255, 0, 0)  # green that nobody sees
    for small in (resize(array, (9, 9)) / 255, resize(array.astype(np.float32) / 255, (9, 9))):
        seen = small[small[:, :, 3] > 0.05]
        assert seen[:, 1].max() < 0.02
    white = to_channels(array.transpose(2, 0, 1), 3)
    assert (white[:, 0, 31] == 255).all()
    assert white[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("a", "b"), [(1, 3), (1, 2), (1, 4), (3, 4), (2, 4)])
def test_adding_channels_and_dropping_them_again(a, b):
    array = noise(5, a, 9, 9)
    if a == 2:
        array[:, 1] = 200
    there = to_channels(array, b)
    assert there.shape == (5, b, 9, 9)
    back = to_channels(there, a)
    assert np.abs(back.astype(int) - array).max() <= 1


def test_large_jpeg_shrunk_while_decoding_looks_the_same(tmp_path):
    y, x = np.mgrid[0:512, 0:768] / 512
    photo = np.stack([x / 1.5, y, x * y / 1.5], 2)
    array = (photo * 255).astype(np.uint8)
    save(tmp_path / "0.jpg", array, quality=95)
    pixels = read_folder(tmp_path, image_size=(32, 32)).train.pixels
    wanted = resize(array, (32, 32)).transpose(2, 0, 1)
    assert np.abs(pixels[0].astype(int) - wanted).max() < 8


# ---- what is refused


def test_mixed_sizes_say_what_to_type(tmp_path):
    for i in range(5):
        save(tmp_path / f"a{i}.png", noise(30, 46))
    save(tmp_path / "b.png", noise(10, 11))
    save(tmp_path / "c.png", noise(100, 90))
    message = refused(
        lambda: open_data(tmp_path), tmp_path, "3 sizes", "10x11", "100x90", "30x46 (5 of 7)", "--image-size 30x46"
    )
    assert "--image-size 32 " in message
    assert read_folder(tmp_path, image_size=(30, 46)).train.pixels.shape == (7, 1, 30, 46)


def test_unreadable_files_are_named_together(tmp_path):
    arrays = fill(tmp_path, 12, 20, 20, 3)
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    message = refused(lambda: open_data(tmp_path), tmp_path, "text.png", "--skip-bad", "of 15")
    assert "empty.jpg" in message
    found = read_folder(tmp_path, skip_bad=True)
    assert np.array_equal(found.train.pixels, np.delete(arrays, 3, 0).transpose(0, 3, 1, 2))
    assert "4 of 15 images" in found.notes[-1]


def test_truncated_files_alone(tmp_path):
    fill(tmp_path / "a", 6, 20, 20, 3)
    fill(tmp_path / "b", 6, 20, 20, 3)
    whole = (tmp_path / "a" / "3.png").read_bytes()
    (tmp_path / "a" / "3.png").write_bytes(whole[:-600])
    refused(lambda: open_data(tmp_path), tmp_path, "1 image of 12", os.path.join("a", "3.png"), "--skip-bad")
    assert open_data(tmp_path, skip_bad=True).classes == ["a", "b"]
    labels = read_folder(tmp_path, skip_bad=True).train.labels
    assert labels.tolist() == [0] * 5 + [1] * 6


def test_other_colour_modes(tmp_path):
    fill(tmp_path, 8, 10, 10, 3)
    save(tmp_path / "print.jpg", noise(10, 10, 4)[:, :, :3], "CMYK")
    refused(lambda: open_data(tmp_path), tmp_path, "print.jpg", "CMYK", "convert it to RGB")


def test_32_bit_and_float_tiffs(tmp_path):
    save(tmp_path / "a.tif", np.full((10, 10), 1_000_000, np.int32))
    refused(lambda: open_data(tmp_path), tmp_path, "a.tif", "32-bit")
    (tmp_path / "a.tif").unlink()
    save(tmp_path / "b.tif", np.full((10, 10), 0.5, np.float32))
    refused(lambda: open_data(tmp_path), tmp_path, "b.tif", "colour mode F")


def test_too_small(tmp_path):
    fill(tmp_path, 9, 7, 20)
    refused(lambda: open_data(tmp_path), tmp_path, "7x20", "smaller than 8")


def test_too_few(tmp_path):
    fill(tmp_path, 7, 10, 10)
    refused(lambda: open_data(tmp_path), tmp_path, "7 images", "at least 8")
    save(tmp_path / "7.png", noise(10, 10))
    data = open_data(tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 1, 1)


def test_no_images(tmp_path):
    refused(lambda: open_data(tmp_path), tmp_path, "empty")
    (tmp_path / "x.txt").write_text("x")
    refused(lambda: open_data(tmp_path), tmp_path, "1 other", ".txt")
    (tmp_path / "data.npz").write_bytes(b"x")
    refused(lambda: open_data(tmp_path), tmp_path / "data.npz", "instead")


def test_idx_files_lead_to_the_named_set(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"x")
    refused(lambda: open_data(folder), folder, "--data mnist", f"--data-dir {tmp_path}")


def test_images_beside_class_folders(tmp_path):
    fill(tmp_path, 3, 10, 10)
    fill(tmp_path / "cat", 3, 10, 10)
    refused(lambda: open_data(tmp_path), tmp_path, "3 images of its own", "1 sub-folders")


def test_odd_splits(tmp_path):
    fill(tmp_path / "train" / "a", 8, 10, 10)
    fill(tmp_path / "train" / "b", 8, 10, 10)
    fill(tmp_path / "test" / "a", 2, 10, 10)
    fill(tmp_path / "test" / "z", 2, 10, 10)
    refused(lambda: open_data(tmp_path), tmp_path / "test", "z")
    for file in (tmp_path / "test").rglob("*.png"):
        file.unlink()
    fill(tmp_path / "test", 2, 10, 10)
    refused(lambda: open_data(tmp_path), tmp_path / "test", "disagree")
    fill(tmp_path / "extra", 2, 10, 10)
    refused(lambda: open_data(tmp_path), tmp_path, "extra")


def test_two_validation_folders(tmp_path):
    for name in ("train", "val", "valid"):
        fill(tmp_path / name, 8, 10, 10)
    refused(lambda: open_data(tmp_path), tmp_path, "val, valid")


def test_decompression_bomb(tmp_path, monkeypatch):
    fill(tmp_path, 9, 40, 40)
    save(tmp_path / "bomb.png", noise(90, 90))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    refused(lambda: open_data(tmp_path, image_size=16), tmp_path, "bomb.png", "5,000 pixels")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # beyond twice the limit Pillow raises another exception
    refused(lambda: open_data(tmp_path, image_size=16), tmp_path, "bomb.png", "3,000 pixels")


def test_too_large_for_memory(tmp_path, monkeypatch):
    fill(tmp_path, 9, 40, 40)
    monkeypatch.setattr(room, "available_memory", lambda: 9 * 1600 * 2 - 1)
    monkeypatch.setattr(room, "SPARE", 2**60)  # nor is there disk
    refused(lambda: open_data(tmp_path), tmp_path, "memory", "--image-size")
    monkeypatch.setattr(room, "available_memory", lambda: 9 * 1600 * 2)
    assert open_data(tmp_path).image_shape == (1, 40, 40)


def test_names_with_line_breaks_stay_on_one_line(tmp_path):
    folder = tmp_path / "two\nlines"
    fill(folder, 9, 10, 10)
    (folder / "bad\nname.png").write_text("x")
    os.rename(folder / "0.png", os.fsencode(folder) + b"/not-utf8-\xff.png")
    (folder / "odd.end\ning").touch()
    refused(lambda: open_data(folder), "two\\nlines", "bad\\nname.png").encode()
    found = read_folder(folder, skip_bad=True)
    assert len(found.train.pixels) == 9
    assert all("\n" not in note for note in found.notes)


@pytest.mark.parametrize("size", [0, 7, -3, "x", "30y46", (8,) * 3, (30, 2), 1.5, True, "30x", ()])
def test_bad_image_sizes(tmp_path, size):
    fill(tmp_path, 9, 10, 10)
    refused(lambda: open_data(tmp_path, image_size=size), "image size")


@pytest.mark.parametrize("size", [16, "16", (16, 16), "16x16", np.int64(16)])
def test_image_sizes(tmp_path, size):
    fill(tmp_path, 9, 10, 12)
    assert open_data(tmp_path, image_size=size).image_shape == (1, 16, 16)


def test_bad_channels(tmp_path):
    fill(tmp_path, 9, 10, 10)
    refused(lambda: open_data(tmp_path, channels=5), "channels=5")


def test_missing_path_and_unknown_words(tmp_path):
    refused(lambda: open_data(tmp_path / "nope"), tmp_path / "nope", "no file or folder")
    refused(lambda: open_data("mnits"), "mnits", "Did you mean 'mnist'?", "folder")
    refused(lambda: open_data("zzzzzzz"), "zzzzzzz", "cifar10", "folder")
    refused(lambda: open_data(""), "nothing given")
    refused(lambda: open_data("~nobody-of-that-name/x"), "~nobody-of-that-name/x")
    one = save(tmp_path / "one.png", noise(10, 10))
    refused(lambda: open_data(one), one, "single image")
    (tmp_path / "x.zip").write_bytes(b"x")
    refused(lambda: open_data(tmp_path / "x.zip"), tmp_path / "x.zip", "parquet")


def test_blobs_as_a_folder(tmp_path):
    images, labels = blobs(30, (3, 16, 16), seed=3)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        save(tmp_path / ("round", "wide", "tall")[label] / f"{i}.png", image.transpose(1, 2, 0))
    found = read_folder(tmp_path)
    assert found.classes == ["round", "tall", "wide"]
    assert np.bincount(found.train.labels).tolist() == np.bincount(labels)[[0, 2, 1]].tolist()


@needs_full
def test_emoji():
    found = read_folder(FULL / "emoji")
    assert found.train.pixels.shape == (1405, 3, 64, 64)
    data = open_data(FULL / "emoji", image_size=32)
    assert (len(data.train), len(data.validation), len(data.test)) == (1125, 140, 140)


def test_three_thousand_small_files_are_quick(tmp_path):
    """Beside nothing but decoding the same files: each is opened twice, and there is some care for each. Processor time, so
    that neither other work nor a slow machine fails this."""
    for i, array in enumerate(noise(3000, 28, 28)):
        Image.fromarray(array).save(tmp_path / f"{i}.png", compress_level=1)
    start = time.process_time()
    for file in tmp_path.iterdir():
        with Image.open(file) as image:
            np.asarray(image)
    plain = time.process_time() - start
    start = time.process_time()
    assert len(read_folder(tmp_path).train.pixels) == 3000
    assert time.process_time() - start < 12 * plain
