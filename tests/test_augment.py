"""Labelled samples: what is drawn, what the files hold and who can read them; and the audit's sums."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge.cli import main
from latentforge.data import Dataset, Images
from latentforge.data.hide import hide_labels
from latentforge.data.synthetic import blobs
from latentforge.metrics.intervals import mean_and_interval
from latentforge.tasks.audit import Mixed, audit, balanced, verdict
from latentforge.tasks.augment import LabelledSampler, asked_labels, folder_names, read_manifest, shares_of

TRAIN = ["--examples", "64", "--batch-size", "16", "--latent-dim", "3", "--quiet"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Runs on three uneven classes of blobs: told labels, not told them, without an encoder; and one without labels."""
    folder = tmp_path_factory.mktemp("augment")
    images, labels = blobs(80, (3, 12, 9))
    keep = (labels != 2) | (np.arange(80) % 4 == 0)
    images = images.transpose(0, 2, 3, 1)
    np.savez(folder / "blobs.npz", images=images[keep], labels=labels[keep])
    np.savez(folder / "bare.npz", images=images[keep])
    dense = ["--net", "mlp", "--hidden", "8"]
    for out, name, data, flags in (
        ("cvae", "cvae", "blobs", dense), ("vae", "vae", "blobs", dense), ("bare", "vae", "bare", dense),
        ("gan", "gan", "blobs", ["--hidden", "8", "--critic-hidden", "8"]),
    ):  # fmt: skip
        where = ["--data", str(folder / f"{data}.npz"), "--out", str(folder / out)]
        assert main(["train", name, *where, *TRAIN, *flags]) == 0
    assert main(["export", str(folder / "cvae"), str(folder / "exported")]) == 0
    return folder


def done(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("run", ["cvae", "vae", "exported"])
def test_the_three_kinds_of_files_hold_the_same(shop, run, tmp_path, capsys):
    made = {}
    for name in ("x.npz", "x.parquet", "x"):
        made[name] = json.loads(done(capsys, "augment", shop / run, "-n", 40, "--seed", 5, "--even", "--json",
                                     "--out", tmp_path / name))  # fmt: skip
        assert read_manifest(tmp_path / name) == made[name]
    for manifest in made.values():
        del manifest["date"]  # midnight may have come in between
    assert made["x.npz"] == made["x.parquet"] == made["x"]
    manifest = made["x"]
    assert manifest["counts"] == {"0": 14, "1": 13, "2": 13}
    assert manifest["run"] == str(shop / run)
    assert manifest["seed"] == 5
    assert manifest["drawn_from"].startswith("gaussian mixture" if run == "vae" else "conditional")
    with np.load(tmp_path / "x.npz") as file:
        images, labels = file["images"], file["labels"]
    assert hashlib.sha256(images.tobytes()).hexdigest() == manifest["sha256"]
    assert images.shape == (40, 12, 9, 3)
    for name in ("x.npz", "x.parquet", "x"):  # each can be trained on, and holds the same images under the same labels
        data = lf.open_data(tmp_path / name)
        parts = [data.train, data.validation, data.test]
        pixels = torch.cat([p.pixels for p in parts]).permute(0, 2, 3, 1).numpy()
        found = {(x.tobytes(), int(y)) for x, y in zip(pixels, torch.cat([p.labels for p in parts]), strict=True)}
        assert found == {(x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True)}


def test_samples_are_those_of_the_model_and_repeatable(shop):
    """What is exported is what the model draws for these labels, chunk by chunk; another seed draws others."""
    model = lf.load(shop / "cvae")
    sampler = LabelledSampler(model)
    labels = torch.arange(1100) % 3
    first, second = list(sampler.drawn(labels, 3)), list(sampler.drawn(labels, 3))
    assert [len(p) for p in first] == [1000, 100]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0][:100], first[1])
    assert not np.array_equal(first[1], list(sampler.drawn(labels, 4))[1])
    assert torch.equal(sampler(labels[:5], 7), model.sample(5, label=labels[:5], seed=7))


def test_a_model_that_is_told_nothing_draws_classes_from_their_codes():
    """Trained long enough, samples of a class lie nearest to that class's mean image far more often than chance."""
    data = tiny_data((1, 16, 16), n=500)
    model = lf.fit("autoencoder", data, examples=30_000, batch_size=32, quiet=True, sampler="prior",
                   model_options={"net": "mlp", "hidden": (64,), "latent_dim": 8})  # fmt: skip
    labels = torch.arange(300) % 3
    images = LabelledSampler(model, data)(labels, 0)
    real = data.train[torch.arange(len(data.train))]
    index = torch.cdist(images.flatten(1), real.image.flatten(1)).argmin(1)
    assert float((real.label[index] == labels).float().mean()) > 0.6


def test_unknown_labels_are_no_class():
    """Their images teach no class its codes, count in no share and train no classifier of an audit."""
    whole = tiny_data((1, 12, 12), n=120)
    data = hide_labels(whole, 24)
    vae = lf.create("vae", image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,))
    known = data.train.labelled()
    assert shares_of(vae, data).tolist() == pytest.approx((torch.bincount(known.labels) / 24).tolist())
    told = Dataset("k", "k", known, data.validation, data.test)
    labels = torch.arange(9) % 3
    assert torch.equal(LabelledSampler(vae, data)(labels, 0), LabelledSampler(vae, told)(labels, 0))
    rows = audit(vae, data, repeats=1, synthetic=30, examples=64)
    assert {r["real"] for r in rows} == {24}
    assert {r["unlabelled"] for r in rows} == {48}
    assert "has also seen 48 images without a label" in verdict(rows)[-1]
    refused(lambda: audit(vae, data, split="tset"), "no split")
    refused(lambda: audit(vae, tiny_data((1, 8, 8))), "do not fit")
    refused(lambda: audit(vae, "nothing-there"), "no data set")


def test_labels_are_counted_without_their_images(monkeypatch):
    data = hide_labels(tiny_data((1, 12, 12)), 24)
    vae = lf.create("vae", image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,))
    monkeypatch.setattr(Images, "select", lambda *_: pytest.fail("images were copied"))
    assert float(shares_of(vae, data).sum()) == pytest.approx(1)


@pytest.mark.parametrize(("name", "left"), [("vae", 1), ("cvae", 0)])
def test_a_class_of_too_few_training_images_is_not_drawn(name, left, tmp_path):
    """One image makes no mixture of its own, and none teaches a model what it is told: such a class is left out of those as
    frequent as in training, and refused where it is asked for."""
    data = tiny_data((1, 12, 12), n=60)
    rows = torch.cat([torch.where(data.train.labels < 2)[0], torch.where(data.train.labels == 2)[0][:left]])
    few = Dataset("few", "few", data.train.select(rows), data.validation, data.test)
    told = {"num_classes": 3} if name == "cvae" else {}
    model = lf.create(name, image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,), **told)
    model.meet(few.train)
    made = lf.augment(model, tmp_path / "x.npz", 200, data=few)
    assert made["counts"]["2"] == 0 < made["counts"]["0"]
    assert made["left_out"] == ["2"]
    for how in ({"label": 2}, {"even": True}):
        refused(lambda how=how: lf.augment(model, tmp_path / "y.npz", 9, data=few, **how), "class 2 has too few")
    assert not (tmp_path / "y.npz").exists()
    assert lf.augment(model, tmp_path / "x.npz", 5, data=few, label=1)["left_out"] == []


def test_mixtures_need_two_images_of_some_class():
    data = tiny_data((1, 12, 12))
    rows = torch.stack([torch.where(data.train.labels == k)[0][0] for k in range(3)])
    vae = lf.create("vae", image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,))
    single = Dataset("single", "single", data.train.select(rows), data.validation, data.test)
    refused(lambda: LabelledSampler(vae, single), "single has no class of two labelled training images")


def test_classes_of_other_images_are_said(shop, tmp_path, capsys):
    """Given to a run that has images of its own, they are where its codes and classes come from."""
    with np.load(shop / "blobs.npz") as file:
        images, labels = file["images"], file["labels"]
    keep = (labels != 2) | (np.cumsum(labels == 2) == 1)
    other, out = tmp_path / "other.npz", tmp_path / "x.npz"
    np.savez(other, images=images[keep], labels=labels[keep])
    assert main(["augment", str(shop / "vae"), "-n", "20", "--data", str(other), "--out", str(out)]) == 0
    err = capsys.readouterr().err
    assert "other.npz: not the images that the model was trained on" in err
    assert "left out, with too few training images to draw from: 2" in err
    found = read_manifest(out)
    assert (found["classes_from"], found["trained_on"]) == (str(other.resolve()), str((shop / "blobs.npz").resolve()))
    assert found["fingerprint"] == lf.open_data(other).fingerprint
    assert (found["balance"], found["left_out"], found["sampler"]) == ("as in training", ["2"], None)


def test_a_model_that_was_told_classes_has_their_names(tmp_path):
    model = lf.create("cvae", image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,), num_classes=3)
    model.classes = ["cat", "dog", "owl"]
    made = lf.augment(model, tmp_path / "x.npz", 6, data=tiny_data((1, 12, 12)), even=True)
    assert made["counts"] == {"cat": 2, "dog": 2, "owl": 2}
    assert (made["balance"], made["sampler"], made["classes_from"]) == ("even", "prior", None)


def test_images_that_a_model_was_not_trained_on(tmp_path):
    model = lf.create("cvae", image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,), num_classes=4)
    refused(lambda: lf.augment(model, tmp_path / "x.npz", 5, data=tiny_data((1, 8, 8))), "--image-size 12x12")
    refused(lambda: lf.augment(model, tmp_path / "x.npz", 5, data=tiny_data((1, 12, 12))), "has 3 classes")
    assert not list(tmp_path.iterdir())


def test_a_folder_says_which_numbers_it_cannot_keep(shop, tmp_path, capsys):
    for name, says in (("x", True), ("x.npz", False)):
        capsys.readouterr()
        assert main(["augment", str(shop / "cvae"), "-n", "9", "--label", "2", "--out", str(tmp_path / name)]) == 0
        assert ("numbered anew" in capsys.readouterr().err) == says


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_files_keep_the_numbers_of_classes_without_samples(shop, name, tmp_path):
    assert main(["augment", str(shop / "cvae"), "-n", "12", "--label", "2", "--out", str(tmp_path / name)]) == 0
    data = lf.open_data(tmp_path / name)
    assert data.classes == ["0", "1", "2"]
    assert set(data.train.labels.tolist()) == {2}


def test_options_that_could_not_be_used(shop, tmp_path, capsys):
    for flags, says in (
        (["--repeats", "3"], "--audit"), (["--examples", "64"], "--audit"), (["--label", "1", "--even"], "give label or even")
    ):  # fmt: skip
        assert main(["augment", str(shop / "cvae"), "--out", str(tmp_path / "x"), *flags]) == 2
        assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_audit_on_other_classes(shop, tmp_path, capsys):
    assert main(["augment", str(shop / "cvae"), "-n", "40", "--label", "2", "--out", str(tmp_path / "two")]) == 0
    assert main(["augment", str(shop / "exported"), "--audit", "--data", str(tmp_path / "two")]) == 2
    assert "classes" in capsys.readouterr().err


def test_labels_asked_for():
    shares = torch.tensor([0.7, 0.3, 0.0])
    drawn = asked_labels(2000, 3, None, shares, 0)
    assert torch.bincount(drawn, minlength=3)[2] == 0
    assert abs(float((drawn == 0).double().mean()) - 0.7) < 0.05
    assert torch.equal(asked_labels(4, 3, 2, shares, 0), torch.full((4,), 2))
    assert torch.equal(asked_labels(4, 3, None, None, 0), torch.tensor([0, 1, 2, 0]))
    refused(lambda: asked_labels(4, 3, 3, None, 0), "0 to 2")


@pytest.mark.parametrize(
    ("classes", "label", "drawn"), [(["1", "2", "7"], "1", "1"), (["cat", "dog", "owl"], "dog", "dog"),
                                    (["cat", "dog", "owl"], "2", "owl"), (["1", "2", "7"], 1, "2")]
)  # fmt: skip
def test_a_class_asked_for_by_name(classes, label, drawn, tmp_path):
    """Text is a name, and a place in the list only where no name is a number; in Python a number is a place."""
    model = lf.create("cvae", image_shape=(1, 8, 8), latent_dim=3, net="mlp", hidden=(8,), num_classes=3)
    model.classes = classes
    counts = lf.augment(model, tmp_path / "x.npz", 4, label=label)["counts"]
    assert counts == {c: 4 * (c == drawn) for c in classes}


def test_a_number_that_is_no_name_is_no_place_either(tmp_path):
    model = lf.create("cvae", image_shape=(1, 8, 8), latent_dim=3, net="mlp", hidden=(8,), num_classes=3)
    model.classes = ["1", "2", "7"]
    refused(lambda: lf.augment(model, tmp_path / "x.npz", 4, label="0"), "no class '0'", "1, 2, 7")


def test_folders_keep_the_numbers_of_the_classes():
    assert folder_names(["cat", "dog"]) == ["cat", "dog"]
    assert folder_names([str(i) for i in range(11)]) == [str(i) for i in range(11)]
    assert folder_names(["T-shirt/top", "Trouser"]) == ["0-T-shirt-top", "1-Trouser"]
    assert folder_names(["dog", "cat"]) == ["0-dog", "1-cat"]
    assert folder_names(["A", "a"]) == ["0-A", "1-a"]  # one folder on many systems
    assert folder_names(["aux", "main"]) == ["0-aux", "1-main"]  # on Windows no folder can be called so
    assert folder_names(["cats etc.", "dogs", "x\ty "]) == ["0-cats etc", "1-dogs", "2-x-y"]
    assert folder_names(["auxiliary", "com", "lpt10"]) == ["auxiliary", "com", "lpt10"]


# ---- the audit -------------------------------------------------------------------------------------------------------
def test_every_other_image_is_real():
    real, fake = (Images(torch.full((n, 1, 6, 6), v), torch.full((n,), k)) for n, v, k in ((3, 0.25, 0), (50, 0.75, 1)))
    both = Mixed(real, fake, length=100)
    batch = both[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    assert int((batch.label == 0).sum()) == 50
    assert torch.equal(batch.image[:, 0, 0, 0] == 0.25, batch.label == 0)
    fake.pixels = torch.arange(50.0)[:, None, None, None].expand(50, 1, 6, 6)
    assert both[torch.arange(100)].image[50:, 0, 0, 0].tolist() == list(range(50))  # each of them once
    real.pixels = torch.arange(3.0)[:, None, None, None].expand(3, 1, 6, 6)
    alone = Mixed(real, length=8)
    assert alone[torch.arange(len(alone))].image[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_intervals_against_scipy():
    rng = np.random.default_rng(0)
    one = rng.random((1, 400)) < 0.8
    mean, low, high = mean_and_interval(torch.from_numpy(one).double())
    error = stats.sem(one[0].astype(float))
    assert (low, high) == pytest.approx((mean - 1.959964 * error, mean + 1.959964 * error), rel=1e-5)
    seeds = np.array([0.1, 0.5, 0.9, 0.3])[:, None] * np.ones((1, 50))  # no spread over images
    mean, low, high = mean_and_interval(torch.from_numpy(seeds))
    expected = stats.t.interval(0.95, 3, loc=0.45, scale=stats.sem([0.1, 0.5, 0.9, 0.3]))
    assert (low, high) == pytest.approx(expected, rel=1e-6)


def test_balanced_accuracy_against_sklearn():
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 4000, p=[0.7, 0.25, 0.05])
    right = rng.random((1, 4000)) < np.array([0.9, 0.6, 0.3])[truth]
    mean, low, high = balanced(torch.from_numpy(right).double(), torch.from_numpy(truth))
    assert mean == pytest.approx(balanced_accuracy_score(truth, np.where(right[0], truth, (truth + 1) % 3)))
    errors = [stats.sem(right[0, truth == k].astype(float)) for k in range(3)]
    width = 1.959964 * np.sqrt(np.square(errors).sum()) / 3
    assert (mean - low, high - mean) == pytest.approx((width, width), rel=0.03)
    mean, low, _ = balanced(torch.ones(1, 52).double(), torch.tensor([0] * 50 + [1] * 2))
    assert mean == 1
    assert low < 0.6  # two images of a class say little of it


def biased(half: int) -> tuple[Dataset, lf.Game]:
    """Few real images, and a sampler that draws from the whole truth (`half` = 1) or mixes up two classes."""
    data = tiny_data((1, 12, 12), n=900)
    few = Dataset("few", "few", data.train.select(torch.arange(9)), data.validation, data.test)
    model = lf.fit("cvae", few, examples=32, quiet=True, model_options={"net": "mlp", "hidden": (4,), "latent_dim": 2})

    def sample(n, *, label, seed):
        generator = torch.Generator().manual_seed(seed)
        wanted = label if half else (label + 1) % 3
        rows = [torch.where(data.train.labels == k)[0] for k in wanted]
        pick = torch.stack([r[torch.randint(len(r), (), generator=generator)] for r in rows])
        return data.train[pick].image

    model.sample = sample
    return few, model


@pytest.mark.parametrize(("truthful", "word"), [(1, "helped"), (0, "hurt")])
def test_the_audit_tells_good_samples_from_bad(truthful, word):
    few, model = biased(truthful)
    rows = audit(model, few, repeats=2, synthetic=300, examples=4000)
    by = {r["trained on"]: r for r in rows}
    assert len(by) == 6
    assert by["real"]["difference"] is None
    assert by["real"]["low"] <= by["real"]["accuracy"] <= by["real"]["high"]
    gap = by["real and synthetic"]["accuracy"] - by["real"]["accuracy"]
    assert by["real and synthetic"]["difference"] == pytest.approx(gap)
    assert (by["synthetic"]["accuracy"] > 0.8) == bool(truthful)
    assert (gap > 0) == bool(truthful)
    text = verdict([r | {"difference low": r["difference"] and r["difference"] - 1e-6,
                         "difference high": r["difference"] and r["difference"] + 1e-6} for r in rows])  # fmt: skip
    assert text[0].startswith(f"synthetic images {word} without")


def test_the_verdict_needs_the_interval():
    row = {
        "accuracy": 0.5,
        "real": 9,
        "synthetic": 9,
        "difference": 0.1,
        "difference low": -0.1,
        "difference high": 0.3,
    }
    rows = [{**row, "trained on": n + e} for n in ("real", "real and synthetic") for e in ("", ", jittered")]
    assert all("no difference that this audit can show" in line for line in verdict(rows))


@pytest.mark.parametrize(("fewest", "more"), [(4, True), (30, False)])
def test_rare_classes_have_a_verdict_of_their_own(fewest, more):
    row = {
        "accuracy": 0.9, "real": 9, "synthetic": 9, "difference": 0.0, "difference low": -0.1, "difference high": 0.1,
        "balanced accuracy": 0.5, "balanced difference": 0.2, "balanced difference low": 0.1, "balanced difference high": 0.3,
        "images": 100, "classes": 2, "fewest": fewest,
    }  # fmt: skip
    lines = verdict([{**row, "trained on": n + e} for n in ("real", "real and synthetic") for e in ("", ", jittered")])
    assert all("no difference that this audit can show" in line for line in lines[:2])
    assert len(lines) == (4 if more else 2)
    for line in lines[2:]:
        assert "images helped" in line
        assert "in the mean over 2 classes (the rarest has 4 images): 50.00% on 9 real images" in line


def test_an_audit_may_draw_all_classes_alike():
    data, drawn = tiny_data((1, 12, 12), n=60), []
    model = lf.create("cvae", image_shape=(1, 12, 12), latent_dim=2, net="mlp", hidden=(4,), num_classes=3)
    model.condition.learn(torch.tensor([0] * 8 + [1] + [2]))
    sample = model.sample
    model.sample = lambda n, *, label, seed: drawn.append(label) or sample(n, label=label, seed=seed)
    audit(model, data, repeats=1, synthetic=30, examples=64, even=True)
    assert torch.bincount(torch.cat(drawn)).tolist() == [10, 10, 10]


def test_audit_verb(shop, capsys):
    arguments = ["augment", shop / "cvae", "--audit", "--repeats", 2, "--examples", 256, "-n", 64]
    rows = json.loads(done(capsys, *arguments, "--json"))
    assert [r["trained on"] for r in rows][:3] == ["real", "synthetic", "real and synthetic"]
    assert all(r["low"] <= r["accuracy"] <= r["high"] for r in rows)
    assert all(r["balanced low"] <= r["balanced accuracy"] <= r["balanced high"] for r in rows)
    kept = json.loads((shop / "cvae" / "audit.json").read_text())
    assert kept["rows"] == rows
    assert kept["even"] is False
    assert kept["as trained on"] is True
    text = done(capsys, *arguments)
    assert all(line in text for line in kept["verdict"])


def test_exports_of_the_default_place_and_share(shop, capsys):
    text = done(capsys, "augment", shop / "vae", "-n", 30)
    assert "30 samples of 3 classes" in text
    found = read_manifest(shop / "vae" / "augmented")
    assert found["counts"]["2"] < found["counts"]["0"]  # as frequent as in training
    assert len(list((shop / "vae" / "augmented").rglob("*.png"))) == 30
    done(capsys, "augment", shop / "vae", "-n", 3, "--label", 2, "--out", shop / "twos.npz")
    assert read_manifest(shop / "twos.npz")["counts"] == {"0": 0, "1": 0, "2": 3}


@pytest.mark.parametrize(("arguments", "part"), [
    (["gan"], "no encoder"),
    (["bare"], "no classes"),
    (["cvae", "--label", "3"], "no class '3'; choose from 0, 1, 2."),
    (["cvae", "--out", "x.png"], ".npz"),
    (["cvae", "--audit", "--out", "x.npz"], "--audit"),
    (["exported", "--audit"], "--data"),
    (["bare", "--audit"], "no classes"),
    (["nothing"], "nothing"),
])  # fmt: skip
def test_bad_input(shop, arguments, part, monkeypatch, capsys):
    monkeypatch.chdir(shop)
    before = sorted(shop.rglob("*"))
    assert main(["augment", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert part in err
    assert sorted(shop.rglob("*")) == before


def test_descriptors_are_no_classes():
    model = lf.create("cvae", image_shape=(1, 8, 8), descriptor_mean=(0.0,), descriptor_stddev=(1.0,), net="mlp")
    refused(lambda: LabelledSampler(model), "descriptors")
    refused(lambda: read_manifest("nowhere.npz"), "no manifest")


# ---- the benchmark ---------------------------------------------------------------------------------------------------
def test_the_benchmark_trains_on_what_is_called_real(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    bench = importlib.import_module("augment")
    whole = tiny_data((1, 12, 12), n=300)
    one, other = bench.few(whole, 20, 0), bench.few(whole, 20, 1)
    assert torch.bincount(one.train.labels).tolist() == [7, 7, 6]
    assert one.train.pixels.shape == (20, 1, 12, 12)
    assert not torch.equal(one.train.pixels, other.train.pixels)
    assert torch.equal(one.test.pixels, whole.test.pixels)

    monkeypatch.setattr(bench.lf, "open_data", lambda name, data_dir: whole)
    monkeypatch.setitem(bench.MODELS, "mnist", ("cvae",))
    for seed in (0, 1):
        found = bench.measure("mnist/cvae/100", seed, None, 0.003, tmp_path, synthetic=30, examples=128)
        assert len(found["accuracy"]) == 6
        assert found["images"] == 60
    rows = bench.table(tmp_path).splitlines()
    assert rows[2].startswith("| mnist | `cvae` | 100 | 2 |")
    assert rows[2].count("|") == rows[0].count("|") == rows[1].count("|")
    mean, width = bench.interval([1.0, 2.0, 4.0])
    assert (mean, width) == pytest.approx((7 / 3, 4.302653 * np.std([1, 2, 4], ddof=1) / 3**0.5), rel=1e-5)
    assert bench.verdict(0.1, 0.05) == "helped"
    assert bench.verdict(-0.1, 0.05) == "hurt"
    assert bench.verdict(0.1, 0.2) == "no difference shown"


def test_samples_need_no_data_where_the_model_is_told_classes(shop, tmp_path, capsys):
    """A run whose images have gone still draws; an audit needs them."""
    data = np.load(shop / "blobs.npz")
    np.savez(tmp_path / "own.npz", **data)
    where = ["--data", str(tmp_path / "own.npz"), "--out", str(tmp_path / "run")]
    assert main(["train", "cvae", *where, *TRAIN, "--net", "mlp", "--hidden", "8"]) == 0
    (tmp_path / "own.npz").unlink()
    assert main(["augment", str(tmp_path / "run"), "-n", "6", "--out", str(tmp_path / "x.npz")]) == 0
    assert "own.npz" in capsys.readouterr().err
    assert len(np.load(tmp_path / "x.npz")["images"]) == 6
    assert main(["augment", str(tmp_path / "run"), "--audit"]) == 2
