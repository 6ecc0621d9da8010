"""Labels that are numbers and not classes: what is read as what, and that the rest of the package takes them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import latentforge as lf
from datasets import refused
from latentforge.cli import main
from latentforge.data import Dataset, Images, open_data
from latentforge.data.arrays import labels_from_array
from latentforge.data.dataset import _three
from latentforge.data.decode import Found, Part
from latentforge.report.labelled import caption, labelled_grid

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 8, 8)).astype(np.uint8)
NUMBERS = RNG.normal(size=(40, 3))


def test_floats_are_descriptors():
    data = open_data((PIXELS, NUMBERS))
    assert data.descriptors == ["d0", "d1", "d2"]
    assert (data.num_classes, data.classes, data.notes) == (0, None, [])
    assert data.train.labels.dtype == torch.float32
    assert data.train.labels.shape == (32, 3)
    batch = data.train[torch.tensor([3, 1])]
    assert torch.equal(batch.label, data.train.labels[[3, 1]])


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS[:, 0],
        NUMBERS[:, :1].astype(np.float16),
        torch.from_numpy(NUMBERS[:, 0]).bfloat16(),
        NUMBERS[:, 0].tolist(),
        np.arange(40.0)[:, None],  # whole numbers in a column of their own can only be a descriptor
        np.append(np.zeros(39), 0.5),
    ],
)
def test_one_descriptor(labels):
    found = labels_from_array(labels, 40, "a")
    assert (found.shape, found.dtype) == ((40, 1), np.float32)
    assert open_data((PIXELS, labels)).descriptors == ["d0"]


def test_whole_floats_may_be_meant_as_classes():
    labels = np.arange(40) % 3
    refused(lambda: open_data((PIXELS, labels.astype(float))), "float64", "whole numbers", "int64", "reshape(-1, 1)")
    assert open_data((PIXELS, labels)).num_classes == 3
    assert open_data((PIXELS, labels.astype(float).reshape(-1, 1))).num_classes == 0


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (np.where(np.arange(120).reshape(40, 3) == 16, np.nan, 0.5), "first for image 5"),
        (np.full((40, 2), np.inf), "first for image 0"),
        (np.full((40, 2), 1e300), "32-bit"),
        (NUMBERS[:39], "39 labels for 40 images"),
        (NUMBERS[:, :0], "40x0"),
        (NUMBERS[:, :, None], "40x3x1"),
        (np.array(0.5), "single number"),
        (np.ones((40, 2), int), "floating point"),
    ],
)
def test_bad_descriptors(labels, part):
    refused(lambda: open_data((PIXELS, labels)), "images (labels)", part)


def test_descriptors_stay_with_their_images():
    images = np.arange(200, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    told = np.stack([np.arange(200) / 200, np.arange(200) / -100], 1)
    cut = open_data((images, told), seed=3)
    own = Found("x", Part(images[:, None], told.astype(np.float32)))
    for name, same in _three(own, "x", 3, None).items():
        part = cut.split(name)
        np.testing.assert_allclose(part.pixels[:, 0, 0, 0] / 200, part.labels[:, 0])
        assert torch.equal(part.labels, same.labels)
    strata = _three(own, "x", 0, np.arange(200) // 100)
    assert [len(strata[k]) for k in ("train", "validation", "test")] == [160, 20, 20]
    assert strata["train"].labels.shape == (160, 2)


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=PIXELS, y_train=NUMBERS, x_test=PIXELS[:9], y_test=NUMBERS[:9])
    data = open_data(path, image_size=10)
    assert data.descriptors == ["d0", "d1", "d2"]
    np.testing.assert_allclose(data.test.labels, NUMBERS[:9], rtol=1e-6)
    for y_test, kind in ((np.zeros(9, int), "test classes"), (NUMBERS[:9, :2], "test 2 descriptors")):
        np.savez(path, x_train=PIXELS, y_train=NUMBERS, x_test=PIXELS[:9], y_test=y_test)
        refused(lambda: open_data(path), path, "train 3 descriptors", kind)


def test_names_and_fingerprint():
    parts = [Images(torch.from_numpy(PIXELS[:, None]), torch.from_numpy(NUMBERS).float()) for _ in range(3)]
    unnamed, named = Dataset("a", "b", *parts), Dataset("a", "b", *parts, descriptors=["u", "v", "w"])
    assert (unnamed.descriptors, named.descriptors) == (["d0", "d1", "d2"], ["u", "v", "w"])
    assert unnamed.num_classes == named.num_classes == 0
    other = replace(unnamed, test=Images(parts[2].pixels, parts[2].labels + 1e-3))
    assert other.fingerprint != unnamed.fingerprint == replace(unnamed).fingerprint


def test_captions():
    told = torch.tensor([0.25, -1.5, 1000.0, 2.0, 3.0])
    assert caption(told[:1], None, ["width"]) == "width 0.25"
    assert caption(told[:3], None, None) == "d0 0.25, d1 -1.5\nd2 1e+03"
    assert caption(told, None, list("abcde")).endswith("c 1e+03, d 2 …")
    assert caption(torch.tensor(1), ["cat", "dog"], None) == "dog"
    assert caption(torch.tensor(1), None, None) == "1"
    images = open_data((PIXELS, NUMBERS)).train
    with_text, without = labelled_grid(images, None, ["a", "b", "$x^"]), labelled_grid(Images(images.pixels), None)
    assert with_text.size == without.size
    assert with_text.tobytes() != without.tobytes()


def test_listing_and_training(tmp_path, capsys):
    path = tmp_path / "a.npz"
    np.savez(path, images=PIXELS, labels=NUMBERS)
    assert main(["data", str(path), "--json", "--preview", str(tmp_path / "p.png")]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["classes"], row["descriptors"]) == ("none", "d0, d1, d2")
    assert (tmp_path / "p.png").stat().st_size > 1000
    options = {"net": "mlp", "hidden": (4,), "latent_dim": 2}
    lf.fit("vae", str(path), out=tmp_path / "run", model_options=options, examples=64, batch_size=16, quiet=True)
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert main(["embed", str(tmp_path / "run"), "--out", str(tmp_path / "codes.npz"), "--split", "all"]) == 0
    with np.load(tmp_path / "codes.npz") as codes:
        np.testing.assert_allclose(np.sort(codes["labels"], 0), np.sort(NUMBERS, 0), rtol=1e-6)
