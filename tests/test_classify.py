"""Bayes' rule: the densities against scipy, calibration against slow loops, the verb, the estimator."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import latentforge as lf
from conftest import tiny_data
from latentforge.cli import main
from latentforge.cli.classify import by_name
from latentforge.data import Images
from latentforge.errors import InputError
from latentforge.tasks.bayes import hold_out_by_class
from latentforge.tasks.classify import Verdict, fit_temperature, least_evidence, log_joint, measures

TINY = {"net": "mlp", "hidden": (24,)}
NAMES = np.array(["nought", "one", "seven"])


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Noughts, ones and sevens of the embedded digits at half their size: (N, 14, 14) uint8, and 0, 1 or 2."""
    data = lf.open_data("mnist-5k")
    parts = [(data.train.labels == k).nonzero()[:200, 0] for k in (0, 1, 7)]
    index = torch.stack(parts, 1).flatten()
    return data.train.pixels[index, 0, ::2, ::2].numpy(), np.tile([0, 1, 2], 200)


def blind(classes: int = 3):
    """A conditional VAE whose decoder sees the class alone and whose posterior is the prior: p(x | y) is a Gaussian around
    the image it makes of the class, whatever the code."""
    torch.manual_seed(0)
    model = lf.create("cvae", image_shape=(1, 6, 6), latent_dim=2, num_classes=classes, likelihood="gaussian", sigma=0.3,
                      **TINY).eval()  # fmt: skip
    with torch.no_grad():
        model.decoder.layers[0].weight[:, :2] = 0
        model.decoder.layers[0].weight[:, 2:] *= 20
        model.encoder.layers[-1].weight.zero_()
        model.encoder.layers[-1].bias.zero_()
    return model


def test_the_joint_density_is_the_gaussian_that_it_must_be():
    model = blind()
    model.condition.learn(torch.tensor([0, 0, 1, 2]))
    x = torch.rand(5, 1, 6, 6)
    found = log_joint(model, Images(x), codes=3)
    for k, share in enumerate((0.5, 0.25, 0.25)):
        mean = model.decode(torch.zeros(1, 2), torch.tensor([k]))[0].numpy()
        expected = norm.logpdf(x.numpy(), mean, 0.3).sum((1, 2, 3)) + np.log(share)
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-4)
    uniform = log_joint(model, Images(x), torch.ones(3), codes=3)
    np.testing.assert_allclose(uniform[:, 0] - found[:, 0], -np.log(0.5), rtol=1e-3)
    prior = torch.full((2,), 0.5)
    with pytest.raises(InputError, match="no likelihood"):
        log_joint([lf.create("autoencoder", image_shape=(1, 8, 8))] * 2, Images(torch.rand(2, 1, 8, 8)), prior)


def test_large_images_are_judged_a_few_at_once(monkeypatch):
    model, images, sizes = blind(), Images(torch.rand(11, 1, 6, 6)), []
    whole = log_joint(model, images, codes=2)
    monkeypatch.setattr("latentforge.data.batch.NUMBERS", 36 * 4)
    with model.encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0]))):
        torch.testing.assert_close(log_joint(model, images, codes=2), whole, rtol=1e-4, atol=1e-3)
    assert max(sizes) == 4


def test_bayes_rule_finds_the_class_an_image_was_made_of():
    model = blind()
    y = torch.arange(3).repeat(20)
    x = model.decode(torch.randn(60, 2), y) + 0.02 * torch.randn(
        60, 1, 6, 6, generator=torch.Generator().manual_seed(0)
    )
    verdict = lf.classify(model, Images(x), Images(x, y))
    assert torch.equal(verdict.label, y)
    joint = verdict.log_joint.double()
    evidence = torch.log(torch.exp(joint - joint.max()).sum(1)) + joint.max()
    torch.testing.assert_close(verdict.log_evidence.double(), evidence, rtol=1e-5, atol=1e-4)
    p = torch.exp(joint / verdict.temperature - (joint / verdict.temperature).max(1, keepdim=True).values)
    torch.testing.assert_close(verdict.probability.double(), p / p.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)
    noise = lf.classify(model, Images(torch.rand(20, 1, 6, 6)))
    assert noise.log_evidence.max() < verdict.log_evidence.min()


def test_more_codes_say_the_image_is_likelier():
    data = tiny_data((1, 12, 12))
    model = lf.fit("cvae", data, examples=1500, quiet=True, model_options=TINY | {"latent_dim": 4})
    means = [np.mean([log_joint(model, data.test, codes=k, seed=s).mean() for s in range(20)]) for k in (1, 8, 64)]
    assert means[0] < means[1] < means[2]


def test_the_temperature_is_the_likeliest_and_changes_no_label():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 4, 500))
    joint = 30 * torch.nn.functional.one_hot(labels, 4).double() + 40 * torch.from_numpy(rng.normal(size=(500, 4)))
    found = fit_temperature(joint, labels)
    wrong = torch.tensor(
        [max(set(range(4)) - {int(y)}, key=row.__getitem__) for row, y in zip(joint, labels, strict=True)]
    )

    def nats(t):
        of_labels, of_wrong = (torch.nn.functional.cross_entropy(joint / t, y) for y in (labels, wrong))
        return float(501 * of_labels + of_wrong) / 502

    grid = np.geomspace(0.1, 1000, 2000)
    assert nats(found) <= min(map(nats, grid)) + 1e-6
    assert torch.equal(Verdict(joint, found).label, Verdict(joint).label)
    got = measures(Verdict(joint, found), labels)
    p, truth = Verdict(joint, found).probability.numpy(), labels.numpy()
    confidence, right = p.max(1), p.argmax(1) == truth
    bins = np.minimum((confidence * 15).astype(int), 14)
    gap = sum(abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    assert got["calibration_error"] == pytest.approx(gap, abs=1e-4)
    assert got["calibration_error"] < got["calibration_error_at_1"]
    assert got["accuracy"] == pytest.approx(right.mean())
    assert got["nats"] == pytest.approx(-np.log(p[np.arange(500), truth]).mean(), rel=1e-5)


@pytest.mark.parametrize("n", [5, 10, 1000])
def test_images_without_a_mistake_do_not_stand_for_certainty(n):
    """The confidence of n right ones is Laplace's rule of succession."""
    labels = torch.arange(n) % 5
    joint = 5.0 * torch.nn.functional.one_hot(labels, 5)
    confidence = Verdict(joint, fit_temperature(joint, labels)).probability.max(1).values
    torch.testing.assert_close(confidence, torch.full((n,), (n + 1) / (n + 2)), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("n", "reject", "kth"), [(99, 0.01, 1), (199, 0.01, 2), (198, 0.01, 1), (20, 0.01, 1), (9, 0.5, 5), (4, 1.0, 4)]
)
def test_a_new_image_is_below_the_kth_lowest_of_n_with_probability_k_in_n_and_one(n, reject, kth):
    log_px = torch.randperm(n, generator=torch.Generator().manual_seed(0)).float()
    assert least_evidence(log_px, reject) == kth - 1


# ---- the verb ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A conditional VAE trained on folders by class, a folder with one of them and one it does not know, and a plain VAE."""
    folder = tmp_path_factory.mktemp("classify")
    pixels, labels = digits()
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        for place in ["known", *(["new"] if label == 2 and i < 100 else [])]:
            (folder / place / NAMES[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / place / NAMES[label] / f"{i:03d}.png")
    (folder / "new" / "noise").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        noise = rng.integers(0, 256, (14, 14), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "new" / "noise" / f"{i}.png")
    arguments = [
        "--latent-dim",
        "4",
        "--net",
        "mlp",
        "--hidden",
        "48",
        "--quiet",
        "--lr",
        "3e-3",
    ]
    for name, examples in (("cvae", "12000"), ("vae", "32")):  # the plain one is only refused
        run = ["train", name, "--data", str(folder / "known"), *arguments, "--examples", examples]
        assert main([*run, "--out", str(folder / name)]) == 0
    assert main(["export", str(folder / "cvae"), str(folder / "exported")]) == 0
    return folder


def test_a_confident_mistake_costs_what_it_says():
    joint = torch.tensor([[0.0, -150.0], [0.0, -150.0]])
    assert measures(Verdict(joint), torch.tensor([1, 0]))["nats"] == pytest.approx(75)


@pytest.mark.parametrize("options", [{"reject": 5.0}, {"codes": 0}])
def test_settings_are_checked_before_training(options):
    estimator = lf.BayesClassifier("vae", image_shape=(8, 8), examples=10**9, **options)
    with pytest.raises(InputError):
        estimator.fit(np.random.default_rng(0).random((20, 64)), np.arange(20) % 2)


def test_classify_tells_classes_apart_and_refuses_what_is_none(workshop, tmp_path, capsys):
    assert main(["classify", str(workshop / "cvae"), "--out", str(tmp_path / "own.csv"), "--json"]) == 0
    printed, said = capsys.readouterr()
    own = json.loads(printed)
    assert "60 held-out images are too few for --reject 0.01: about 1 in 61" in said
    assert own["accuracy"] > 0.8
    assert own["of_no_class"] == 0
    assert own["rejected"] <= 0.2 * own["images"]
    half = ["classify", str(workshop / "cvae"), "--reject", "0.5", "--out", str(tmp_path / "half.csv"), "--json"]
    assert main(half) == 0
    assert 0.2 < json.loads(capsys.readouterr().out)["rejected"] / own["images"] < 0.8
    new = ["classify", str(workshop / "cvae"), "--data", str(workshop / "new")]
    assert main([*new, "--out", str(tmp_path / "labels.csv"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["of_no_class"], summary["rejected_of_no_class"]) == (4, 4)
    with open(tmp_path / "labels.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["image"].split("/")[0] for r in rows] == ["noise"] * 4 + ["seven"] * (len(rows) - 4)
    assert [r["rejected"] for r in rows[:4]] == ["1"] * 4
    right = np.mean([r["class"] == "seven" for r in rows[4:]])
    assert right == pytest.approx(summary["accuracy"])
    shutil.copytree(workshop / "new", tmp_path / "some")
    shutil.copytree(workshop / "known" / NAMES[0], tmp_path / "some" / "unlabelled")
    some = [
        "classify",
        str(workshop / "cvae"),
        "--data",
        str(tmp_path / "some"),
        "--out",
        str(tmp_path / "some.csv"),
        "--json",
    ]
    assert main(some) == 0
    known = json.loads(capsys.readouterr().out)
    assert known.pop("without_label") == len(list((tmp_path / "some" / "unlabelled").iterdir()))
    for k in ("accuracy", "of_no_class", "nats"):  # in batches of other images, sums are rounded otherwise
        assert known[k] == pytest.approx(summary[k], rel=1e-6)
    assert main([*new, "--out", str(tmp_path / "labels.npz")]) == 0
    assert "accuracy" in capsys.readouterr().out
    with np.load(tmp_path / "labels.npz") as saved:
        np.testing.assert_allclose(saved["probabilities"].sum(1), 1, rtol=1e-5)
        assert (saved["probabilities"].argmax(1) == saved["label"]).all()
        assert ((saved["log_px"] < saved["least_log_px"]) == saved["rejected"].astype(bool)).all()


def test_another_seed_draws_other_codes(workshop, tmp_path, capsys):
    found = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        out = str(tmp_path / f"{name}.npz")
        assert main(["classify", str(workshop / "cvae"), "--codes", "1", "--seed", seed, "--out", out]) == 0
        with np.load(out) as saved:
            found.append(saved["log_px"])
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_more_codes_find_more_of_the_density(workshop, tmp_path, capsys):
    """The bound of importance sampling rises with the number of codes (Burda et al. 2016, theorem 1)."""
    found = []
    for codes in ("1", "64"):
        out = str(tmp_path / f"{codes}.npz")
        assert main(["classify", str(workshop / "cvae"), "--codes", codes, "--out", out]) == 0
        found.append(float(np.load(out)["log_px"].mean()))
    assert found[1] > found[0]


@pytest.mark.parametrize(("source", "why"), [("memory", "on arrays in memory:"), ("/nowhere/at/all", "is not there:")])
def test_a_run_whose_own_images_are_gone_still_classifies_others(workshop, tmp_path, capsys, source, why):
    shutil.copytree(workshop / "cvae", tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(f"source: {(workshop / 'known').resolve()}", f"source: {source}"))
    arguments = ["classify", str(tmp_path / "run"), "--out", str(tmp_path / "labels.csv"), "--json"]
    assert main([*arguments, "--data", str(workshop / "new")]) == 0
    printed, said = capsys.readouterr()
    assert f"{why} its probabilities are not calibrated" in said
    assert json.loads(printed)["temperature"] == 1
    assert main(arguments) == 2


def test_an_exported_model_says_that_it_is_not_calibrated(workshop, tmp_path, capsys):
    out = str(tmp_path / "labels.csv")
    assert main(["classify", str(workshop / "exported"), "--data", str(workshop / "new"), "--out", out, "--json"]) == 0
    printed, said = capsys.readouterr()
    assert "not calibrated" in said
    assert json.loads(printed)["temperature"] == 1
    assert json.loads(printed)["rejected"] == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["vae"], "vae is not conditioned on classes"),
        (["cvae", "--out", "labels.txt"], "NAME.csv or NAME.npz"),
        (["cvae", "--reject", "2"], "reject"),
        (["cvae", "--data", "nowhere"], "nowhere"),
        (["exported"], "carries no data"),
        (["nothing"], "does not exist"),
    ],
)
def test_bad_input_is_one_line(workshop, monkeypatch, capsys, arguments, part):
    monkeypatch.chdir(workshop)
    before = sorted(workshop.rglob("*"))
    assert main(["classify", *arguments]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1
    assert part in lines[0]
    assert out == ""
    assert sorted(workshop.rglob("*")) == before


# ---- the estimator -----------------------------------------------------------------------------------------------

FLOAT32 = "networks compute in float32, whose last digits depend on which images share a batch; see the next test"
EXCEPT = {"check_methods_sample_order_invariance": FLOAT32, "check_methods_subset_invariance": FLOAT32}
LEARNING = ("check_classifiers_train", "check_classifiers_classes")  # the others do not ask whether it has learned
QUICK = {"batch_size": 32, "lr": 1e-2}
OPTIONS = {"hidden": (16,), "latent_dim": 2, "sigma": 0.2}


@parametrize_with_checks(
    [lf.BayesClassifier(examples=8000, model_options=OPTIONS, trainer_options=QUICK, random_state=0, codes=2)],
    expected_failed_checks=lambda _: EXCEPT,
)
def test_it_is_a_classifier_of_scikit_learn(estimator, check):
    if check.func.__name__ not in LEARNING:
        estimator = clone(estimator).set_params(examples=400)
    check(estimator)


@pytest.mark.parametrize("name", ["cvae", "vae"])
def test_classes_of_digits(name):
    images, labels = digits()
    words = NAMES[labels]
    options = {"net": "mlp", "hidden": (64,), "latent_dim": 4}
    classifier = lf.BayesClassifier(name, examples=30_000, model_options=options, random_state=0)
    classifier.fit(images[:450], words[:450])
    assert len(classifier.models_) == (1 if name == "cvae" else 3)
    assert classifier.score(images[450:], words[450:]) > 0.8
    noise = np.random.default_rng(0).integers(0, 256, (20, 14, 14), dtype=np.uint8)
    assert classifier.rejects(noise).all()
    alone = [classifier.score_samples(images[i : i + 1])[0] for i in range(450, 470)]
    np.testing.assert_allclose(alone, classifier.score_samples(images[450:])[:20], rtol=1e-4)
    assert classifier.rejects(images[450:]).mean() < 0.1
    joint = classifier.predict_joint_log_proba(images[450:])
    assert (classifier.classes_[joint.argmax(1)] == classifier.predict(images[450:])).all()
    np.testing.assert_allclose(np.logaddexp.reduce(joint, 1), classifier.score_samples(images[450:]), rtol=1e-5)


def test_a_tenth_of_each_class_is_held_out():
    labels = torch.tensor([0] * 40 + [1] * 20 + [2])
    pixels = torch.arange(61)[:, None, None, None].float()
    rest, held = hold_out_by_class(Images(pixels, labels), 0)
    assert torch.bincount(held.labels).tolist() == [4, 2, 1]
    assert torch.bincount(rest.labels).tolist() == [36, 18, 1]
    both = set(rest.pixels.flatten().tolist()) & set(held.pixels.flatten().tolist())
    assert both == {60.0}


@pytest.mark.parametrize("name", ["ssl-vae-gan", "gan", "autoencoder", "cgan", "ssl-vae"])
def test_a_model_without_a_density_of_each_class_is_refused_before_it_is_trained(name):
    X, y = digits()
    with pytest.raises(InputError, match="train cvae"):
        lf.BayesClassifier(name, examples=10**9).fit(X, y)


def test_numbers_of_classes_are_compared_where_there_are_no_names():
    ours = ["shirt", "shoe", "bag"]
    assert by_name(torch.tensor([0, 2, 5]), None, ours).tolist() == [0, 2, -1]
    assert by_name(torch.tensor([0, 1]), ["bag", "hat"], ours).tolist() == [2, -1]
