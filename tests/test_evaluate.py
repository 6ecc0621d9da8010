"""`evaluate`: its rows, their baselines by hand, and that better models score better."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import prdc
import pytest
import scipy.linalg
import scipy.special
import torch
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import latentforge as lf
from conftest import tiny_data
from latentforge.clock import seeded
from latentforge.data import Dataset, Images
from latentforge.data.hide import hide_labels
from latentforge.data.modes import Modes, ring
from latentforge.data.synthetic import blobs
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.measures import mean_measures
from latentforge.metrics import disentanglement
from latentforge.metrics.likelihood import importance_nll
from latentforge.metrics.subject import Subject, gaussian_images
from latentforge.parts.gaussian import Point
from latentforge.tasks.evaluate import METRICS, QUICK, Metric
from latentforge.train import Trainer
from test_metrics import drawn, modes_slowly


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    """The Frechet distance as printed, with scipy's matrix square root."""
    s, t = np.cov(x.T), np.cov(y.T)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real))


@pytest.fixture(scope="module")
def trained():
    data = tiny_data((1, 8, 8), n=200)
    torch.manual_seed(0)
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=3, net="mlp", hidden=(8,))
    return Trainer(model, data, examples=320, batch_size=16, quiet=True).fit(), data


def test_measures_are_means_of_what_the_model_says(trained):
    model, data = trained
    images = data.test[torch.arange(len(data.test))].image
    with torch.no_grad():
        posterior = model.encode(images)
        mean, std = posterior.mean.double(), posterior.stddev.double()
        kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).sum(1).mean()
        mse = (model.decode(posterior.mean) - images).square().mean()
    found = mean_measures(model, data.test)
    assert found["kl_nats"] == pytest.approx(float(kl), rel=1e-5)
    assert found["reconstruction_mse"] == pytest.approx(float(mse), rel=1e-5)
    assert found["loss_nats"] == pytest.approx(found["reconstruction_nats"] + found["kl_nats"], rel=1e-6)
    assert found == mean_measures(model, data.test)
    assert found["reconstruction_nats"] != mean_measures(model, data.test, seed=1)["reconstruction_nats"]


def test_a_limit_spreads_over_the_split(trained):
    model, data = trained
    part = Images(data.test.pixels[data.test.spread(7)], data.test.labels[data.test.spread(7)])
    limited = mean_measures(model, data.test, limit=7)
    assert limited["reconstruction_mse"] == pytest.approx(mean_measures(model, part)["reconstruction_mse"], rel=1e-5)


def test_baselines_of_evaluate_by_hand(trained):
    model, data = trained
    rows = {r["measure"]: r for r in lf.evaluate(model, data)}
    x, y = (s.pixels.flatten(1).double().numpy() / 255 for s in (data.train, data.test))

    pca = SklearnPCA(3, svd_solver="full").fit(x)
    rebuilt = pca.inverse_transform(pca.transform(y)).clip(0, 1)
    row = rows["reconstruction_mse"]
    assert row["which"] == "PCA-3"
    assert row["baseline"] == pytest.approx(((rebuilt - y) ** 2).mean(), rel=1e-4)
    assert row["reference"] == pytest.approx(((x.mean(0) - y) ** 2).mean(), rel=1e-4)
    assert row["better"] == "lower"
    assert row["value"] == pytest.approx(mean_measures(model, data.test)["reconstruction_mse"])

    row = rows["loss_nats"]
    p = x.mean(0).clip(1e-4, 1 - 1e-4)
    assert row["which"] == "independent pixels"
    assert row["baseline"] == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(1).mean(), rel=1e-4)
    entropy = -(scipy.special.xlogy(y, y) + scipy.special.xlogy(1 - y, 1 - y)).sum(1).mean()
    assert row["reference"] == pytest.approx(entropy, rel=1e-4)
    assert row["value"] > row["reference"]


def test_rows_of_samples_by_hand(trained):
    model, data = trained
    rows = {r["measure"]: r for r in lf.evaluate(model, data, features=["pca50"], repeats=4)}
    x, y = (s.pixels.flatten(1).double().numpy() / 255 for s in (data.train, data.test))
    n, sets = len(y), 32  # 40 images are few
    wide = SklearnPCA(50, svd_solver="full").fit(x)
    real = wide.transform(y)
    fake = wide.transform(model.sample(sets * n, seed=0).flatten(1).double().numpy())
    gauss = wide.transform(gaussian_images(data, sets * n, 0)[0].flatten(1).double().numpy())
    floors = len(x) // n
    train = x[np.linspace(0, len(x) - 1, floors * n).astype(int)]
    train = wide.transform(train[torch.randperm(floors * n, generator=torch.Generator().manual_seed(0)).numpy()])
    for column, others in (("value", fake), ("baseline", gauss), ("reference", train)):
        others = np.split(others, len(others) // n)
        assert rows[f"frechet-pca50-{n}"][column] == pytest.approx(
            np.mean([by_scipy(real, o) for o in others]), rel=0.01
        )
        by_hand = [prdc.compute_prdc(real, o, 5) for o in others]
        for measure in by_hand[0]:
            assert rows[f"{measure}-pca50-{n}"][column] == pytest.approx(
                np.mean([b[measure] for b in by_hand]), abs=0.03
            )
    for measure, better in (("frechet", "lower"), ("kernel", "lower"), ("recall", "higher"), ("coverage", "higher")):
        row = rows[f"{measure}-pca50-{n}"]
        assert row["better"] == better
        assert row["low"] <= row["value"] <= row["high"]
        assert row["images"] == n == 40
        assert row["sets"] == sets
        assert row["which"] == "Gaussian per class in PCA-50"
        assert row["sampler"] == "prior"
        assert row.get("note", "").startswith("40 images are few") == (measure == "frechet")
        assert row["features"].startswith("50 principal components")


def test_every_metric_gives_rows_where_it_can(trained, monkeypatch):
    """A conditional VAE with an encoder and a likelihood has all but those of known factors, mixtures and stacked digits."""
    data = tiny_data((1, 12, 12), n=100)
    model = lf.create(
        "cvae", image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,), num_classes=data.num_classes
    )
    Trainer(model, data, examples=64, batch_size=16, quiet=True).fit()
    monkeypatch.setattr("latentforge.metrics.likelihood.CODES", 5)
    found = {r["measure"]: r for r in lf.evaluate(model, data, metrics=["all"], repeats=2)}
    starts = {
        "own": "loss_nats", "samples": "frechet-labels-", "classes": "as-asked-labels-", "memorisation": "memorisation-",
        "reconstruction": "ssim-", "codes": "mutual-information-", "nll": "bits-per-dim-dynamic-5-",
        "smoothness": "unevenness-", "tstr": "tstr-",
    }  # fmt: skip
    for group, start in starts.items():
        assert any(m.startswith(start) for m in found), group
    assert set(METRICS) - set(starts) == {"modes", "disentanglement", "stacked"}
    neither = {m for m, r in found.items() if r["better"] not in ("lower", "higher")}
    assert neither == {"kl_nats", next(m for m in found if m.startswith("memorisation-"))}
    assert not any(m.startswith(("1-nn", "linear-probe")) for m in found)  # its codes need not hold the class
    nats, bits = (next(r for m, r in found.items() if m.startswith(s)) for s in ("nll-", "bits-"))
    assert bits["value"] == pytest.approx(nats["value"] / (144 * math.log(2)))
    assert bits["baseline"] == pytest.approx(nats["baseline"] / (144 * math.log(2)))


def test_a_metric_of_ones_own_is_a_row_and_a_module_anywhere(trained, tmp_path, monkeypatch):
    (tmp_path / "own_metric.py").write_text(
        "def rows(s):\n    return [{'measure': 'white', 'value': float(s.real.max())}]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METRICS, "mine", Metric("own_metric", "the brightest pixel", "images"))
    model, data = trained
    assert [r["measure"] for r in lf.evaluate(model, data, metrics="mine")] == ["white"]


@pytest.mark.parametrize("right", [True, False])
def test_classes_asked_for_are_held_against_classes_shown(right, monkeypatch):
    """A model that shows training images of the class it is asked for, or of the next one."""
    monkeypatch.setattr("latentforge.metrics.tstr.EPOCHS", 30)
    data = tiny_data((1, 12, 12), n=400)
    model = lf.create("cvae", image_shape=(1, 12, 12), latent_dim=2, net="mlp", hidden=(4,), num_classes=3).eval()
    model.meet(data.train)

    def sample(n, *, label=None, seed=None):
        label = model.draw_labels(n, seed=seed) if label is None else label
        rows = [torch.where(data.train.labels == (k if right else (k + 1) % 3))[0] for k in label]
        return data.train[torch.stack([r[i % len(r)] for i, r in enumerate(rows)])].image

    model.sample = sample
    rows = lf.evaluate(model, data, metrics=["classes", "tstr"], features="labels", repeats=0)
    found = {r["measure"]: r["value"] for r in rows}
    for name in ("as-asked-labels-80", "tstr-240"):
        assert found[name] > 0.6 if right else found[name] < 0.3


def test_probes_are_taken_of_the_codes():
    """Codes that are every other pixel, against scikit-learn."""
    data = tiny_data((1, 8, 8), n=200)
    model = lf.create("autoencoder", image_shape=(1, 8, 8), latent_dim=32, net="mlp", hidden=(4,)).eval()
    model.encode = lambda image, y=None: Point(image.flatten(1)[:, ::2])
    rows = {r["measure"]: r["value"] for r in lf.evaluate(model, data, metrics=["codes"], repeats=0)}
    (x, y), (a, b) = ((p.pixels.flatten(1)[:, ::2].numpy() / 255, p.labels.numpy()) for p in (data.train, data.test))
    assert rows["1-nn-120"] == pytest.approx(KNeighborsClassifier(1).fit(x, y).score(a, b))
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, y)
    assert rows["linear-probe-120"] == pytest.approx(linear.score(a, b), abs=0.06)  # two of 40 images


def test_codes_that_are_sampled_from_are_compared_with_those_of_images(trained):
    model, data = copy.deepcopy(trained[0]), trained[1]
    drawn = 5 + torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    model.draw_codes = lambda n, seed=None, y=None: drawn
    rows = {r["measure"]: r for r in lf.evaluate(model, data, metrics=["codes"], repeats=0)}
    with seeded(0):
        real = model.codes_of(data.test)[0]
    expected = by_scipy(real.double().numpy(), drawn.double().numpy())
    assert rows["codes-frechet-40"]["value"] == pytest.approx(expected, rel=0.01)
    assert rows["codes-frechet-40"]["reference"] < 0.2 * expected


def test_unevenness_is_that_of_walks_between_drawn_codes(trained):
    """A decoder of one shade of grey, which a straight line through the codes crosses at a changing pace."""
    model, data = copy.deepcopy(trained[0]), trained[1]

    def shade(z):
        return torch.sigmoid(3 * z[..., :1])

    model.decode = lambda z, y=None: shade(z).repeat(1, 64).view(-1, 1, 8, 8)
    (row,) = lf.evaluate(model, data, metrics=["smoothness"], features="pca50", repeats=0)
    a, b = (model.draw_codes(40, seed) for seed in (0, 1))
    walks = torch.stack([shade(torch.lerp(a, b, w)) for w in torch.linspace(0, 1, 17).tolist()], 1)
    steps = walks.double().diff(dim=1).abs()[..., 0]
    assert row["value"] == pytest.approx(float((steps.amax(1) / steps.mean(1)).mean()), rel=1e-2)
    assert row["value"] > 1.2
    assert row["baseline"] == pytest.approx(1, abs=1e-2)


def test_bits_of_bytes_under_a_density():
    """Eight bits of 256 values beside the density of images in [0, 1]."""
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=2, net="mlp", hidden=(4,), likelihood="gaussian").eval()
    nats, bits = lf.evaluate(model, tiny_data((1, 8, 8)), metrics=["nll"], repeats=0)
    assert nats["measure"].startswith("nll-dequantised")
    assert bits["value"] == pytest.approx(nats["value"] / (64 * math.log(2)) + 8)


def test_known_factors_are_measured():
    labels = torch.rand(120, 2)
    pixels = labels.repeat(1, 32).view(-1, 1, 8, 8)
    parts = [Images(pixels[i::3], labels[i::3]) for i in range(3)]
    data = Dataset("made", "made", *parts, descriptors=["a", "b"])
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=3, net="mlp", hidden=(4,)).eval()
    rows = lf.evaluate(model, data, metrics=["disentanglement"])
    assert [r["measure"] for r in rows] == [
        f"{m}-40" for m in ("mig", "dci-disentanglement", "dci-completeness", "dci-informativeness", "sap")
    ]
    assert all(0 <= r["value"] <= 1 and r["which"] in ("PCA-2", "PCA-3") for r in rows)


def test_the_order_of_images_does_not_matter_to_known_factors():
    """Codes that are the factors, of images sorted by one of them as grids of factors are."""
    factors = torch.cartesian_prod(torch.linspace(0, 1, 20), torch.linspace(0, 1, 10))
    found = disentanglement.scores(factors, factors)
    assert found["dci-informativeness"] > 0.95
    assert found["dci-disentanglement"] > 0.95


def test_a_factor_that_never_changes_is_left_out(trained):
    labels = torch.rand(120, 2) * torch.tensor([1.0, 0.0])
    parts = [Images(torch.rand(40, 1, 8, 8), labels[i::3]) for i in range(3)]
    rows = lf.evaluate(trained[0], Dataset("made", "made", *parts, descriptors=["a", "b"]), metrics=["disentanglement"])
    assert rows
    assert all(math.isfinite(r["value"]) for r in rows)


def test_data_may_be_anything_that_open_data_takes(trained):
    model, arrays = trained[0], blobs(60, (1, 8, 8))
    assert lf.evaluate(model, arrays, metrics="own") == lf.evaluate(model, lf.open_data(arrays), metrics="own")
    with pytest.raises(InputError, match="do not fit"):
        lf.evaluate(model, tiny_data((1, 9, 9)))


def test_measuring_leaves_each_part_in_the_mode_it_was_in():
    data = tiny_data((1, 8, 8))
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=2, net="mlp", hidden=(16,))
    model.encoder.eval()  # frozen, while the rest trains
    batch = data.test[torch.arange(4)]
    for measure in (
        lambda: lf.evaluate(model, data, metrics=["codes"], repeats=0), lambda: lf.detect(model, data.test, data.train),
        lambda: model.sample(2, seed=0), lambda: importance_nll(model, batch, 2),
    ):  # fmt: skip
        measure()
        assert [m.training for m in (model, model.decoder, model.encoder)] == [True, True, False]


def test_unknown_labels_are_no_class():
    """A model that is told classes, half of them hidden: classifiers and the baseline know the others alone."""
    data = hide_labels(tiny_data((1, 12, 12), n=100), 30)
    model = lf.create("cvae", image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,), num_classes=3)
    Trainer(model, data, examples=64, batch_size=16, quiet=True).fit()
    rows = lf.evaluate(model, data, metrics=["tstr"], repeats=2)
    assert [r["measure"] for r in rows] == ["tstr-30"]
    assert gaussian_images(data, 200, 0)[1].unique().tolist() == [0, 1, 2]


def test_large_images_are_compared_in_smaller_numbers(trained, monkeypatch):
    model, data = trained
    monkeypatch.setattr("latentforge.metrics.features.NUMBERS", 64 * 25)
    monkeypatch.setattr("latentforge.metrics.features.FEWEST", 4)
    rows = lf.evaluate(model, data, metrics=["samples"], features="pca50", repeats=0)
    assert {r["images"] for r in rows} == {25}


def test_where_images_are_few_several_sets_of_samples_are_compared(trained, monkeypatch):
    """So many that their mean says something, within the memory that one large set may have."""
    data = tiny_data((1, 8, 8), n=200)  # 40 test images
    assert Subject(trained[0], data).sets == 32
    assert Subject(trained[0], data).floor.shape[0] == len(data.train) // 40 * 40
    monkeypatch.setattr("latentforge.metrics.features.NUMBERS", 64 * 100)
    monkeypatch.setattr("latentforge.metrics.features.FEWEST", 4)
    assert Subject(trained[0], data).sets == 2
    monkeypatch.setattr("latentforge.metrics.subject.FEW", 40)
    one = Subject(trained[0], data)
    assert one.sets == 1
    assert torch.equal(one.fake, trained[0].sample(40, seed=0))
    assert torch.equal(one.floor, data.train[data.train.spread(40)].image)
    (row, *_) = lf.evaluate(trained[0], data, metrics=["samples"], features="pca50", repeats=0)
    assert "sets" not in row


def test_large_images_are_taught_and_walked_in_smaller_numbers(monkeypatch):
    data = tiny_data((1, 12, 12), n=100)
    model = lf.create("cvae", image_shape=(1, 12, 12), latent_dim=3, net="mlp", hidden=(8,), num_classes=3).eval()
    model.meet(data.train)
    monkeypatch.setattr("latentforge.metrics.features.FEWEST", 4)
    for metric, numbers, name in (("tstr", 144 * 25, "tstr-25"), ("smoothness", 144 * 17 * 5, "unevenness-pca50-5")):
        monkeypatch.setattr("latentforge.metrics.features.NUMBERS", numbers)
        (row,) = lf.evaluate(model, data, metrics=[metric], features="pca50", repeats=0)
        assert row["measure"] == name


def test_the_baseline_says_how_many_components_it_has(trained):
    assert Subject(trained[0], tiny_data((1, 8, 8), n=30)).which == "Gaussian per class in PCA-17"
    assert Subject(trained[0], points_data(ring())).which == "Gaussian in PCA-2"


def test_what_has_no_numbers_is_told(trained):
    without = []
    rows = lf.evaluate(*trained, metrics=["reconstruction", "tstr", "stacked"], left_out=without)
    assert rows
    assert without == ["tstr", "stacked"]


def test_a_split_that_is_none_is_named(trained):
    with pytest.raises(InputError, match="no split 'tset'; choose from train, validation, test"):
        lf.evaluate(*trained, "tset")


def test_a_misspelt_metric_is_named(trained):
    model, data = trained
    with pytest.raises(InputError, match="Did you mean 'samples'"):
        lf.evaluate(model, data, metrics=["sample"])
    with pytest.raises(InputError, match="binarise"):
        lf.evaluate(model, data, binarise="no")
    assert set(QUICK) < set(METRICS)


def test_evaluate_is_repeatable_and_made_of_plain_numbers(trained):
    model, data = trained
    rows = lf.evaluate(model, data, "validation", seed=3, repeats=2)
    assert rows == lf.evaluate(model, data, "validation", seed=3, repeats=2)
    assert rows != lf.evaluate(model, data, "validation", seed=4, repeats=2)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert {r["images"] for r in rows} == {40}
    assert {r["measure"].split("-")[1] for r in rows if r["measure"].startswith("frechet")} == {"labels"}


def test_a_squared_error_has_no_bernoulli_baseline():
    data = tiny_data((1, 8, 8))
    for name, options in (("autoencoder", {"reconstruction": "squared"}), ("vae", {"likelihood": "gaussian"})):
        model = lf.create(name, image_shape=(1, 8, 8), latent_dim=2, net="mlp", hidden=(4,), **options)
        rows = {r["measure"]: r for r in lf.evaluate(model.eval(), data)}
        assert "baseline" in rows["reconstruction_mse"]
        assert "baseline" not in rows.get("loss_nats", {})


def test_the_better_model_scores_better():
    """Real images score better than noise, on every measure of samples."""

    class Copies(Game):
        """Shows the images it is given."""

        def __init__(self, images):
            super().__init__()
            self.images, self.latent_dim, self.image_shape = images, 1, (1, 8, 8)

        def sample(self, n, *, seed=None):
            return self.images[:n]

    data = tiny_data((1, 8, 8), n=300)
    other = data.validation[torch.arange(len(data.validation))].image
    noise = torch.rand(other.shape, generator=torch.Generator().manual_seed(0))
    good, bad = (
        {r["measure"].split("-")[0]: r for r in lf.evaluate(Copies(x), data, metrics=["samples", "memorisation"])}
        for x in (other, noise)
    )
    for m in ("frechet", "kernel"):
        assert good[m]["high"] < bad[m]["low"]
    for m in ("density", "coverage", "recall"):
        assert good[m]["low"] > bad[m]["high"]
    assert good["frechet"]["value"] == pytest.approx(good["frechet"]["reference"], rel=0.6)
    assert good["frechet"]["baseline"] < bad["frechet"]["value"]
    train = data.train[torch.arange(len(other))].image
    (copied,) = lf.evaluate(Copies(train), data, metrics=["memorisation"])
    assert copied["value"] < 0.01 < 0.8 < good["memorisation"]["value"] < 1.2


class Points(Game):
    """Shows the points it is given, as images."""

    latent_dim, image_shape = 2, (2, 1, 1)

    def __init__(self, images):
        super().__init__()
        self.images, self.unused = images, nn.Parameter(torch.zeros(1))  # a game without weights is on no device

    def sample(self, n, *, seed=None):
        return self.images[:n]

    def evaluate(self, b):
        return {"reconstruction_mse": b.image.flatten(1).square().mean(1)}


def points_data(modes: Modes) -> Dataset:
    parts = [torch.from_numpy(modes.to_pixels(drawn(modes, n, seed).numpy())) for seed, n in enumerate((900, 200, 400))]
    return Dataset("points", "a mixture", *map(Images, parts), modes=modes)


def test_evaluate_on_points():
    modes = ring()
    data = points_data(modes)
    other = torch.from_numpy(modes.to_pixels(drawn(modes, 400, 9, components=3).numpy()))
    rows = {r["measure"]: r for r in lf.evaluate(Points(other), data)}
    assert rows["reconstruction_mse"]["which"] == "PCA-2"
    assert rows["reconstruction_mse"]["baseline"] == pytest.approx(0, abs=1e-9)
    assert {"frechet-pca2-400", "recall-pca2-400", "coverage-pca2-400"} < set(rows)
    found = {m: rows[m] for m in ("modes", "high_quality", "reverse_kl")}
    for column, points in (("value", other), ("reference", data.test.pixels)):
        expected = modes_slowly(modes.to_units(points).numpy(), modes)
        assert {m: r[column] for m, r in found.items()} == pytest.approx(expected)
    assert found["modes"]["value"] == 3
    assert [r["better"] for r in found.values()] == ["higher", "higher", "lower"]
    assert found["high_quality"]["baseline"] < 0.05 < 0.95 < found["high_quality"]["reference"]
    assert {r["images"] for r in found.values()} == {400}


def test_points_near_no_mode_stay_valid_json():
    rows = lf.evaluate(Points(torch.full((400, 2, 1, 1), 0.5)), points_data(ring()))
    (row,) = (r for r in rows if r["measure"] == "reverse_kl")
    assert row["value"] is None
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_images_have_no_modes(trained):
    model, data = trained
    assert "modes" not in {r["measure"] for r in lf.evaluate(model, data)}


def test_coordinates_are_no_shades_of_grey():
    """No likelihood of points drawn black or white, nor of their bits."""
    data = lf.open_data("ring")
    for likelihood, names in (("bernoulli", []), ("gaussian", ["nll-grey-500-100"])):
        model = lf.create(
            "vae", image_shape=data.image_shape, net="mlp", hidden=(8,), likelihood=likelihood, latent_dim=2
        )
        small = Dataset(
            "ring", "ring", data.train, data.validation, data.test.select(torch.arange(100)), modes=data.modes
        )
        rows = lf.evaluate(model.eval(), small, metrics=("nll",), repeats=0)
        assert [r["measure"] for r in rows] == names
