"""Pre-training: the start of a classifier, and what it gains."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import stats

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge.cli import main
from latentforge.data import Dataset, Images
from latentforge.data.hide import hide_labels
from latentforge.errors import InputError
from latentforge.tasks.finetune import FineTuned, error_of, fed_range, finetune, gain, pick_part

VAE = {"net": "conv", "width": 4, "latent_dim": 3}
PARTS = [
    ("vae", VAE, "encoder", (0.0, 1.0)),
    ("dcgan", {"width": 4}, "critic", (-1.0, 1.0)),
    ("gan", {"hidden": (8,), "critic_hidden": (8,)}, "critic", (-1.0, 1.0)),
    ("vae-gan", {"width": 4, "critic_width": 4}, "encoder", None),
    ("ssl-gan", {"num_classes": 3, "hidden": (8,), "critic_hidden": (8,)}, "critic", (0.0, 1.0)),
    ("bigan", {"net": "mlp", "hidden": (8,), "critic_hidden": (8,)}, "encoder", None),
]


def test_arrays_and_labels_as_users_have_them():
    model = lf.create("vae", image_shape=(1, 12, 12), latent_dim=2, net="mlp", hidden=(8,))
    images, labels = np.random.default_rng(0).integers(0, 256, (30, 12, 12), np.uint8), np.arange(30) % 3
    a, b = (finetune(model, x, y, steps=3) for x, y in
            ((images, labels), (torch.from_numpy(images)[:, None] / 255, torch.from_numpy(labels))))  # fmt: skip
    assert torch.allclose(a(torch.ones(1, 1, 12, 12)), b(torch.ones(1, 1, 12, 12)), atol=1e-5)
    words = finetune(model, images, np.array(["ape", "bee", "cat"])[labels], steps=3)
    with torch.no_grad():
        small = finetune(model, images, labels.astype(np.int32), steps=3)
    assert (words.classes, small.classes) == (["ape", "bee", "cat"], None)
    log_p = a.classify(images)
    for net in (words, small):
        assert torch.equal(net.classify(images), log_p)
    for given in (torch.from_numpy(images)[:, None], images / 255):
        assert torch.allclose(a.classify(given), log_p, atol=1e-5)
    refused(lambda: a(torch.from_numpy(images)[:, None]), "floats in [0, 1]")
    refused(lambda: finetune(model, images, labels.astype(float)), "astype('int64')")
    for wrong in (labels[:20], np.concatenate([labels, labels])):
        refused(lambda y=wrong: finetune(model, images, y), "for 30 images")


@pytest.mark.parametrize(("name", "options", "part", "pixels"), PARTS, ids=[p[0] for p in PARTS])
def test_the_part_and_its_range(name, options, part, pixels):
    model = lf.create(name, image_shape=(1, 28, 28), **options)
    assert pick_part(model, "auto") == part
    if pixels is not None:
        assert fed_range(model, part) == pixels
    net = FineTuned(model, part, 3)
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 3)


def test_the_features_are_the_encoders():
    """With the encoder's own last layer as the new one, the classifier is the encoder."""
    model = lf.create("vae", image_shape=(1, 28, 28), **VAE).eval()
    net = FineTuned(model, "encoder", 6).eval()
    last = model.encoder.head[-1]
    with torch.no_grad():
        net.new.weight.copy_(last.weight)
        net.new.bias.copy_(last.bias)
        x = torch.rand(4, 1, 28, 28)
        torch.testing.assert_close(net(x)[:, :3], model.encode(x).mean)


def test_it_learns_and_leaves_the_model_alone():
    data = tiny_data(n=200)
    model = lf.create("vae", image_shape=(1, 28, 28), **VAE)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    net = finetune(model, data.train, steps=300)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert error_of(net, data.test) < 0.3
    held = data.test[torch.arange(len(data.test))].image
    log_p = net.classify(held)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(len(data.test)))
    again = finetune(model, data.train.pixels, data.train.labels, steps=300)
    assert torch.equal(log_p, again.classify(held))
    other = finetune(model, data.train, steps=1, pretrained=False)
    first = next(other.network.parameters())
    assert not torch.allclose(first, next(model.encoder.parameters()), atol=1e-2)


def test_the_gain_is_the_mean_difference_with_students_interval():
    data = tiny_data(n=200)
    model = lf.create("vae", image_shape=(1, 28, 28), **VAE)
    row = gain(model, data, 6, draws=3, steps=10)
    pretrained, random = (torch.tensor(row["errors"][k], dtype=torch.float64) for k in ("pretrained", "random"))
    few = hide_labels(data, 6, 1)
    assert pretrained[1] == error_of(finetune(model, few.train, steps=10, seed=1), data.test)
    difference = (random - pretrained).numpy()
    low, high = (
        stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference)) if difference.std() else (row["gain"],) * 2
    )
    assert row["gain"] == pytest.approx(difference.mean())
    assert (row["gain_low"], row["gain_high"]) == (pytest.approx(low), pytest.approx(high))


def test_the_verb(tmp_path, capsys):
    run = tmp_path / "run"
    small = ["--net", "mlp", "--hidden", "16", "--latent-dim", "2", "--quiet"]
    assert main(["train", "vae", "--data", "mnist-5k", "--examples", "256", *small, "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["finetune", str(run), "--labels", "10,20", "--draws", "2", "--steps", "5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["labels"] for r in rows] == [10, 20]
    assert all(r["pretrained_low"] <= r["pretrained"] <= r["pretrained_high"] for r in rows)
    assert main(["finetune", str(run), "--labels", "10", "--draws", "2", "--steps", "2"]) == 0
    assert "from random weights" in capsys.readouterr().out
    for bad, words in (
        (["--labels", "x"], "not a list"),
        (["--labels", "3"], "not possible"),
        (["--part", "critic"], "no critic"),
    ):
        assert main(["finetune", str(run), *bad]) == 2
        assert words in capsys.readouterr().err


def test_bad_input():
    data = tiny_data()
    model = lf.create("vae", image_shape=(1, 28, 28), **VAE)
    with pytest.raises(InputError, match="two classes"):
        finetune(model, torch.rand(10, 1, 28, 28))
    with pytest.raises(InputError, match="do not fit"):
        finetune(model, tiny_data((1, 30, 46)).train)
    told = lf.create("cgan", image_shape=(1, 28, 28), num_classes=3, width=4)
    with pytest.raises(InputError, match="no encoder or critic that sees images alone"):
        finetune(told, data.train)
    with pytest.raises(InputError, match="2 draws"):
        gain(model, data, 6, draws=1)
    bare = Dataset("bare", "bare", *[Images(p.pixels) for p in (data.train, data.validation, data.test)])
    with pytest.raises(InputError, match="bare has no classes to learn"):
        gain(model, bare, 6)
    with pytest.raises(InputError, match="part='decoder'"):
        finetune(model, data.train, part="decoder")


def test_counts_of_labels_that_are_not_there(tmp_path, capsys):
    """By default as many as there are, asked for one line before anything is trained."""
    run = tmp_path / "run"
    lf.fit("vae", "mnist-5k", out=run, examples=64, quiet=True, model_options={"net": "mlp", "hidden": (8,)})
    few = tmp_path / "few.npz"
    data = lf.open_data("mnist-5k")
    rows = torch.cat([(data.train.labels == k).nonzero()[:8, 0] for k in range(10)])
    np.savez(few, images=data.train.pixels[rows, 0].numpy(), labels=data.train.labels[rows].numpy())
    short = ["finetune", str(run), "--data", str(few), "--draws", "2", "--steps", "1", "--json"]
    assert main([*short, "--labels", "20,1000"]) == 2
    assert "64 labelled training images" in capsys.readouterr().err
    assert main(short) == 0
    assert [r["labels"] for r in json.loads(capsys.readouterr().out)] == [64]
