"""Detection: the scores against slow computations, the verb end to end, the estimator against scikit-learn's checks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge.cli import main
from latentforge.data import Images
from latentforge.data.batch import hold_out
from latentforge.data.synthetic import blobs
from latentforge.errors import InputError, Interrupted
from latentforge.stopping import StopSignal
from latentforge.tasks import anomaly
from latentforge.tasks.detect import Detector, heat_sheet
from latentforge.tasks.planes import Planes, from_plane
from latentforge.tasks.scores import AUTO, SCORES, features_of

TINY = {"net": "mlp", "hidden": (24,)}


def model_of(name: str, shape=(1, 28, 28), **arguments):
    torch.manual_seed(0)
    return lf.create(name, image_shape=shape, latent_dim=4, **arguments).eval()


@pytest.fixture(scope="module")
def trained():
    """A VAE that knows blobs, and its data."""
    data = tiny_data(n=400)
    return lf.fit(model_of("vae", **TINY), data, examples=8000, quiet=True), data


# ---- planes ------------------------------------------------------------------------------------------------------


def test_a_plane_is_what_minimising_the_weights_gives():
    rng = np.random.default_rng(0)
    offsets, ridge = rng.normal(size=(3, 4, 7)), 0.1
    found = from_plane(torch.tensor(offsets), ridge)
    for d, value in zip(offsets, found, strict=True):
        scale = ridge * np.square(d).sum(1).mean()
        best = minimize(
            lambda w, d=d, scale=scale: np.square(w @ d).sum() + scale * np.square(w).sum(), np.full(4, 0.25),
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, method="SLSQP", options={"ftol": 1e-14},
        )  # fmt: skip
        assert float(value) == pytest.approx(np.square(best.x @ d).sum(), rel=1e-4)


def test_planes_take_the_nearest_and_never_the_vector_itself():
    rng = np.random.default_rng(1)
    reference, asked = rng.normal(size=(50, 5)), rng.normal(size=(6, 5))
    planes = Planes(torch.tensor(reference), neighbours=3)

    def slow(x, others):
        near = others[np.argsort(np.square(others - x).sum(1))[:3]]
        return float(from_plane(torch.tensor(near - x)[None], 0.1))

    np.testing.assert_allclose(planes(torch.tensor(asked)), [slow(x, reference) for x in asked], rtol=1e-8)
    left_out = [slow(reference[i], np.delete(reference, i, 0)) for i in range(50)]
    np.testing.assert_allclose(planes(torch.tensor(reference)), left_out, rtol=1e-8)


def test_planes_stand_copies_few_vectors_and_none():
    same = torch.ones(5, 3)
    assert Planes(same)(same).tolist() == [0.0] * 5
    assert Planes(torch.randn(2, 3))(torch.randn(4, 3)).isfinite().all()
    assert Planes(same)(torch.zeros(0, 3)).shape == (0,)
    assert len(Planes(torch.randn(100, 3), limit=10).vectors) == 10


def test_a_flat_world_has_no_distance_within_and_its_height_above():
    flat = torch.randn(200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flat[:, 3:] = 0
    inside, above = torch.zeros(1, 6, dtype=torch.float64), torch.zeros(1, 6, dtype=torch.float64)
    above[0, 4] = 0.5
    planes = Planes(flat, ridge=1e-6)
    assert float(planes(inside)) < 1e-6
    assert float(planes(above)) == pytest.approx(0.25, rel=1e-3)


# ---- scores ------------------------------------------------------------------------------------------------------


def test_the_reconstruction_score_is_the_logarithm_of_the_squared_error(trained):
    model, data = trained
    x = data.test[torch.arange(5)].image
    error = np.square(model.reconstruct(x).numpy() - x.numpy()).mean((1, 2, 3))
    score = SCORES["reconstruction"](model, data.train, 0)
    np.testing.assert_allclose(score(x), np.log(error), rtol=1e-4)


def test_every_score_finds_noise_stranger_than_blobs(trained):
    model, data = trained
    noise = Images(torch.rand(40, 1, 28, 28))
    assert [n for n in SCORES if not SCORES[n].lacks(model)] == list(SCORES)
    found = Detector(model, data.train, data.validation, list(SCORES))
    usual, strange = found.parts(data.test), found.parts(noise)
    for name in SCORES:
        truth = np.r_[np.zeros(len(data.test)), np.ones(40)]
        assert roc_auc_score(truth, np.r_[usual[name], strange[name]]) > 0.95, name


def test_parts_are_in_standard_deviations_of_held_out_images(trained):
    model, data = trained
    found = Detector(model, data.train, data.validation, ["reconstruction", "codes"])
    for part in found.parts(data.validation).values():
        assert float(part.mean()) == pytest.approx(0, abs=1e-6)
        assert float(part.std()) == pytest.approx(1, rel=1e-6)
    by_hand = np.mean([np.arcsinh(part.numpy()) for part in found.parts(data.test).values()], 0)
    np.testing.assert_allclose(found.score(data.test), by_hand, rtol=1e-9)


def test_score_threshold_and_label_are_apart(trained):
    model, data = trained
    found = Detector(model, data.train, data.validation, "reconstruction")
    low, high = found.detect(data.test, 0.5), found.detect(data.test, 0.99)
    assert torch.equal(low.score, high.score)
    assert low.threshold == pytest.approx(float(found.score(data.validation).sort().values[40]))  # the 41st of 80
    assert low.threshold < high.threshold
    assert torch.equal(low.anomaly, low.score > low.threshold)
    share = found.detect(data.test, contamination=0.25)
    assert int(share.anomaly.sum()) == round(0.25 * len(data.test))
    same = lf.detect(model, data.test, data.train, data.validation, "reconstruction", quantile=0.5)
    assert torch.equal(same.score, low.score)
    for wrong in ({"quantile": 1.0}, {"contamination": 0.0}):
        with pytest.raises(InputError, match="is not a share"):
            found.detect(data.test, **wrong)


@pytest.mark.parametrize(
    ("n", "quantile", "kth"), [(19, 0.95, 19), (20, 0.95, 20), (99, 0.95, 95), (99, 0.07, 7), (5, 0.95, 5)]
)
def test_a_normal_image_exceeds_the_kth_of_n_with_probability_one_less_k_in_n_and_one(trained, n, quantile, kth):
    model, data = trained
    found = Detector(model, data.train, data.validation, "reconstruction")
    found.normal_scores = torch.randperm(n, generator=torch.Generator().manual_seed(0)).double()
    assert found.threshold(quantile) == kth - 1
    assert ("about 1 in 6 normal images" in found.doubt(quantile)) == (n == 5)


def test_a_few_held_out_images_do_not_set_the_scale(trained):
    model, data = trained
    twice = data.validation.select(torch.tensor([0, 0]))
    found = Detector(model, data.train, twice, ["reconstruction", "codes"])
    assert all(deviation > 0.01 for _, deviation in found.scale.values())
    assert len(found.normal_scores) == 2


def test_without_held_out_images_a_tenth_is_held_out(trained):
    model, data = trained
    one, two = Detector(model, data.train, score="density"), Detector(model, *hold_out(data.train, 0), "density")
    assert len(one.normal_scores) == 24
    assert torch.equal(one.score(data.test), two.score(data.test))
    assert one.threshold() == two.threshold()


def test_of_few_normal_images_none_is_left_out(trained):
    """A tenth of them would be one, by which no threshold is set; and what they are fitted to promises nothing."""
    model, data = trained
    few, enough = (Images(data.train.pixels[:n]) for n in (14, 15))
    found = Detector(model, few, score="pixels")
    assert len(found.normal_scores) == 14
    assert "that the scores were fitted to" in found.doubt()
    assert "about 1 in 3" in Detector(model, enough, score="pixels").doubt()
    estimator = lf.AnomalyDetector(model, scores="pixels").fit(few.pixels.numpy())
    assert torch.equal(estimator.detector_.normal_scores, found.normal_scores)


def test_of_large_images_fewer_are_looked_at_at_once(trained, monkeypatch):
    model, data = trained
    sizes: list[int] = []
    monkeypatch.setattr("latentforge.data.batch.NUMBERS", 28 * 28 * 7)
    with model.encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0]))):
        Detector(model, data.train, data.validation, "codes,likelihood").score(data.test)
    assert max(sizes) == 7


def test_a_model_is_asked_for_what_it_has():
    data = tiny_data()
    gan = model_of("gan", critic_hidden=(24,), hidden=(24,))
    found = Detector(gan, data.train, data.validation)
    assert set(found.names) == {n for n in AUTO if n in ("pixels", "features")}
    with pytest.raises(InputError, match="gan has no encoder, so it has no score 'codes'"):
        Detector(gan, data.train, data.validation, "codes")
    with pytest.raises(InputError, match="no encoder"):
        found.heat(data.test[torch.arange(2)].image)
    plain = model_of("autoencoder", **TINY)
    with pytest.raises(InputError, match="autoencoder has no likelihood"):
        Detector(plain, data.train, data.validation, ["likelihood"])
    with pytest.raises(InputError, match="Did you mean 'reconstruction'"):
        Detector(plain, data.train, data.validation, "reconstructon")
    with pytest.raises(InputError, match="at least 3"):
        Detector(plain, Images(data.train.pixels[:2]))
    with pytest.raises(InputError, match="do not fit"):
        Detector(plain, data.train, tiny_data((1, 8, 8)).test)
    untold = model_of("cvae", **TINY, num_classes=3, drop=0.0)
    with pytest.raises(InputError, match="without its label"):
        Detector(untold, data.train, data.validation, "reconstruction")
    assert "codes" in Detector(model_of("cvae", **TINY, num_classes=3), data.train, data.validation).names


def test_features_are_those_of_the_critic_of_images_else_of_the_encoder():
    x = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        hybrid = model_of("larsen-vae-gan", **TINY)
        assert torch.equal(features_of(hybrid)(x), hybrid.critic.features(hybrid.to_network(x))[1])
        told = model_of("cgan", net="mlp", hidden=(24,), critic_hidden=(20,), num_classes=3)
        assert features_of(told)(x).shape == (3, 20)
        judges_codes = model_of("aae", **TINY, critic_hidden=(20,))
        hidden = judges_codes.encoder.layers[:-1](x.flatten(1))
        assert torch.equal(features_of(judges_codes)(x), hidden)
    assert features_of(model_of("began", net="mlp", hidden=(24,))) is None


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 13), (2, 9, 9)], ids=str)
def test_heat_shows_where(shape):
    data = tiny_data(shape)
    model = model_of("autoencoder", shape, **TINY)
    found = Detector(model, data.train, data.validation, "reconstruction")
    x = data.test[torch.arange(4)].image
    np.testing.assert_allclose(
        found.heat(x)[:, 0], np.square(x.numpy() - model.reconstruct(x).numpy()).mean(1), atol=1e-6
    )
    sheet = heat_sheet(found, x, data.validation[torch.arange(8)].image)
    assert sheet.shape == (12, 3, *shape[1:])
    assert 0 <= float(sheet.min()) <= float(sheet.max()) <= 1
    assert torch.allclose(sheet[0], x[0, :3] if shape[0] == 3 else x[0, :1].expand(3, -1, -1))


# ---- the verb ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A run on a folder of blobs, and a folder with three blobs and a picture of noise."""
    folder = tmp_path_factory.mktemp("detect")
    (folder / "normal").mkdir()
    (folder / "new").mkdir()
    for i, pixels in enumerate(blobs(120, (1, 16, 16))[0]):
        Image.fromarray(pixels[0]).save(folder / "normal" / f"{i:03d}.png")
    for i, pixels in enumerate(blobs(3, (1, 16, 16), seed=5)[0]):
        Image.fromarray(pixels[0]).save(folder / "new" / f"blob-{i}.png")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "new" / "a-noise.png")
    arguments = ["--latent-dim", "4", "--net", "mlp", "--hidden", "24", "--examples", "4000", "--quiet"]
    run = ["train", "vae", "--data", str(folder / "normal"), *arguments, "--out", str(folder / "run")]
    assert main(run) == 0
    assert main(["export", str(folder / "run"), str(folder / "exported")]) == 0
    gan = ["--latent-dim", "2", "--hidden", "4", "--critic-hidden", "4", "--examples", "32", "--quiet"]
    assert main(["train", "gan", "--data", str(folder / "normal"), *gan, "--out", str(folder / "gan")]) == 0
    return folder


def test_detect_names_the_strange_file(workshop, tmp_path, capsys):
    out, sheet = tmp_path / "scores.csv", tmp_path / "heat.png"
    new = ["detect", str(workshop / "run"), "--data", str(workshop / "new")]
    assert main([*new, "--out", str(out), "--heatmaps", str(sheet), "-n", "2"]) == 0
    text, said = capsys.readouterr()
    assert "a-noise.png" in text
    assert "from 12 normal images, and the quantile 0.95 needs 19: about 1 in 13" in said
    with open(out, newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["image"] for r in rows] == ["a-noise.png", "blob-0.png", "blob-1.png", "blob-2.png"]
    assert max(rows, key=lambda r: float(r["score"]))["image"] == "a-noise.png"
    assert rows[0]["anomaly"] == "1"
    assert {"score", "anomaly", *AUTO} <= set(rows[0])
    assert Image.open(sheet).size == (3 * 18 + 2, 2 * 18 + 2)
    assert main([*new, "--quantile", ".5", "--score", "pixels", "--out", str(tmp_path / "s.npz"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    with np.load(tmp_path / "s.npz") as saved:
        assert saved["threshold"] == pytest.approx(summary["threshold"])
        assert saved["threshold_from"] == summary["threshold_from"] == 12
        assert (saved["anomaly"] == (saved["score"] > saved["threshold"])).all()
        assert saved["anomaly"].sum() == summary["anomalies"]
    assert summary["scores"] == ["pixels"]
    assert summary["strangest"][0]["image"] == "a-noise.png"


def test_detect_takes_the_runs_own_images_and_an_exported_model(workshop, tmp_path, capsys):
    assert (
        main(["detect", str(workshop / "run"), "--contamination", ".25", "--out", str(tmp_path / "a.csv"), "--json"])
        == 0
    )
    summary = json.loads(capsys.readouterr().out)
    assert (summary["images"], summary["anomalies"]) == (12, 3)
    exported = ["detect", str(workshop / "exported"), "--data", str(workshop / "new"), "--out", str(tmp_path / "b.csv")]
    assert main([*exported, "--normal", str(workshop / "normal"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["strangest"][0]["image"] == "a-noise.png"
    assert main(["detect", "--list", "--json"]) == 0
    assert [r["score"] for r in json.loads(capsys.readouterr().out)] == list(SCORES)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "--score", "pixel"], "Did you mean 'pixels'"),
        (["run", "--quantile", ".9", "--contamination", ".1"], "give one of them"),
        (["run", "--quantile", "2"], "quantile 2 is not a share"),
        (["run", "--contamination", "0"], "contamination 0 is not a share"),
        (["run", "--out", "scores.txt"], "NAME.csv or NAME.npz"),
        (["run", "--heatmaps", "heat.jpg"], "NAME.png"),
        (["run", "--data", "nowhere"], "nowhere"),
        (["run", "--normal", "nowhere"], "nowhere"),
        (["gan", "--heatmaps", "heat.png"], "no encoder"),
        (["gan", "--score", "likelihood"], "gan has no likelihood"),
        (["exported", "--data", "new"], "--normal"),
        (["nothing"], "does not exist"),
        ([], "RUN"),
    ],
)
def test_bad_input_is_one_line(workshop, monkeypatch, capsys, arguments, part):
    monkeypatch.chdir(workshop)
    before = sorted(p for p in workshop.rglob("*"))
    assert main(["detect", *arguments]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1
    assert part in lines[0]
    assert out == ""
    assert sorted(p for p in workshop.rglob("*")) == before


# ---- the estimator -----------------------------------------------------------------------------------------------


def quick(**options):
    return lf.AnomalyDetector(
        **{"examples": 256, "model_options": {"net": "mlp", "hidden": (8,)}, "random_state": 0} | options
    )


FLOAT32 = "networks compute in float32, whose last digits depend on which images share a batch; see the next test"
EXCEPT = {"check_methods_sample_order_invariance": FLOAT32, "check_methods_subset_invariance": FLOAT32}


@parametrize_with_checks([quick()], expected_failed_checks=lambda _: EXCEPT)
def test_it_is_an_outlier_detector_of_scikit_learn(estimator, check):
    check(estimator)


def test_images_are_judged_alone():
    images, _ = blobs(60, (1, 12, 12))
    detector = quick().fit(images)
    together = detector.score_samples(images)
    np.testing.assert_allclose(
        [detector.score_samples(images[i : i + 1])[0] for i in range(60)], together, rtol=1e-3, atol=1e-3
    )
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(detector.score_samples(images[order]), together[order], rtol=1e-3, atol=1e-3)


def test_signs_are_those_of_scikit_learn():
    images, _ = blobs(200, (1, 16, 16))
    noise = np.random.default_rng(0).integers(0, 256, (50, 1, 16, 16), dtype=np.uint8)
    detector = lf.AnomalyDetector(examples=4000, contamination=0.1, random_state=0).fit(images)
    assert detector.score_samples(noise).max() < np.median(detector.score_samples(images))
    np.testing.assert_allclose(
        detector.decision_function(noise), detector.score_samples(noise) + detector.threshold_, rtol=1e-12
    )
    assert (detector.predict(noise) == -1).mean() > 0.9
    assert (detector.predict(images) == -1).sum() == 20
    assert detector.heat_maps(images[:3]).shape == (3, 16, 16)
    with pytest.raises(InputError, match="those of fit were"):
        detector.predict(noise[:, :, :8])


def test_the_threshold_of_many_images_is_found_on_some_of_them(monkeypatch):
    images, _ = blobs(120, (1, 12, 12))
    monkeypatch.setattr(anomaly, "JUDGED", 40)
    detector = quick(contamination=0.1).fit(images)
    looked_at = images[Images(torch.from_numpy(images)).spread(40).numpy()]
    assert len(looked_at) == 40
    assert (detector.predict(looked_at) == -1).sum() == 4
    assert 0 < (detector.predict(images) == -1).mean() < 0.25


def test_rows_and_images_are_the_same_thing():
    images, _ = blobs(60, (1, 12, 10))
    ways = [
        (None, images), (None, images[:, 0]), (None, images.transpose(0, 2, 3, 1)), ((12, 10), images.reshape(60, -1)),
        ((1, 12, 10), images.reshape(60, -1) / 255),
    ]  # fmt: skip
    scores = [quick(image_shape=shape).fit(x).score_samples(x) for shape, x in ways]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match="does not fit rows of 120 numbers"):
        quick(image_shape=(3, 3)).fit(images.reshape(60, -1))
    with pytest.raises(InputError, match="channels first"):
        quick(image_shape=(12, 10, 1)).fit(images.reshape(60, -1))
    with pytest.warns(UserWarning, match="nearly black"):
        quick().fit(images).score_samples((images > 127).astype(np.int64))


def test_a_trained_model_is_wrapped_and_not_trained(trained, tmp_path):
    model, data = trained
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.save_pretrained(tmp_path / "model")
    images = data.train.pixels.numpy()
    one = lf.AnomalyDetector(model, random_state=0).fit(images)
    two = lf.AnomalyDetector(tmp_path / "model", random_state=0).fit(images)
    assert all(torch.equal(v, before[k]) for k, v in one.model_.state_dict().items())
    np.testing.assert_allclose(one.score_samples(images), two.score_samples(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="trained already"):
        lf.AnomalyDetector(model, model_options={"latent_dim": 3}).fit(images)


def test_the_same_seed_gives_the_same_scores():
    images, _ = blobs(60, (1, 12, 12))
    a, b, c = (quick(random_state=s).fit(images).score_samples(images) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)
    with pytest.raises(InputError, match="one budget"):
        quick(minutes=1.0).fit(images)
    with pytest.raises(InputError, match="is not a share"):
        quick(contamination=0.0).fit(images)
    with pytest.raises(InputError, match="contamination='auto' is not a number"):
        quick(contamination="auto").fit(images)


def test_images_may_be_arrays():
    """As everywhere in Python: bytes or numbers in [0, 1], channels last or none."""
    data = tiny_data((1, 12, 12), n=60)
    model = lf.fit("vae", data, examples=64, quiet=True, model_options={"net": "mlp", "latent_dim": 2})
    pixels = data.test.pixels
    expected = lf.embed(model, data.test)[0]
    grey = pixels[:, 0].numpy()
    for given in (pixels, grey, grey[..., None], (grey / 255.0), torch.from_numpy(grey / 255.0)[:, None]):
        assert torch.allclose(lf.embed(model, given)[0], expected, atol=1e-5)
    a, b = (lf.detect(model, x, data.train).score for x in (data.test, grey))
    assert torch.allclose(a, b, atol=1e-4)
    refused(lambda: lf.embed(model, np.full((3, 12, 12), 7.5)), "images")
    with pytest.warns(UserWarning, match="nearly black"):
        lf.embed(model, (grey > 127).astype(np.int64))
    assert not model.training


def test_a_stop_ends_a_search_of_scikit_learn_too(monkeypatch):
    """Which goes on past fits that raise an Exception."""
    monkeypatch.setattr(StopSignal, "asked", True)
    with pytest.raises(Interrupted):
        cross_val_score(quick(), blobs(24, (1, 12, 12))[0], cv=2, scoring=lambda *_: 0.0)
