"""Each metric against an independent computation: scipy, torchmetrics, scikit-learn, or a slow loop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from sklearn.decomposition import PCA as SklearnPCA
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

import latentforge as lf
from conftest import tiny_data
from latentforge.data import Dataset, Images
from latentforge.data.modes import Modes, grid, ring
from latentforge.data.synthetic import blobs
from latentforge.game import Game
from latentforge.measures import mean_measures
from latentforge.metrics.coverage import density_coverage
from latentforge.metrics.frechet import frechet_distance
from latentforge.metrics.modes import mode_coverage
from latentforge.metrics.pca import PCA
from latentforge.train import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- Frechet distance ------------------------------------------------------------------------------------------------


def normal(n: int, features: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=g, dtype=torch.float64)
    return shift + scale * torch.randn(n, features, generator=g, dtype=torch.float64) @ mixing


def by_scipy(a: torch.Tensor, b: torch.Tensor) -> float:
    """Equation 6 as printed, with scipy's matrix square root."""
    x, y = a.double().numpy(), b.double().numpy()
    s, t = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(s @ t).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root))


@pytest.mark.parametrize(("n", "m", "features"), [(200, 300, 2), (500, 400, 12), (300, 300, 40)])
def test_frechet_against_scipy(n, m, features):
    a, b = normal(n, features, 0), normal(m, features, 1, scale=1.5, shift=0.3)
    expected = by_scipy(a, b)
    assert expected > 1
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(a.float(), b.float()) == pytest.approx(expected, rel=1e-4)


def test_frechet_against_torchmetrics():
    """Its FID with the identity for a feature extractor."""

    class Flat(nn.Module):
        num_features = 12

        def forward(self, x):
            return x.flatten(1).double()

    a, b = torch.rand(200, 3, 2, 2, generator=torch.Generator().manual_seed(0)), normal(150, 12, 3).view(150, 3, 2, 2)
    fid = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 2, 2), normalize=True).set_dtype(torch.float64)
    fid.update(a, real=True)
    fid.update(b, real=False)
    assert frechet_distance(a.flatten(1), b.flatten(1)) == pytest.approx(float(fid.compute()), rel=1e-6)


def test_frechet_in_closed_form():
    """Equal spread: the squared distance of the means. Equal means: squared differences of the standard deviations."""
    a = normal(400, 5, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(a, a + 2) == pytest.approx(5 * 4, rel=1e-8)
    assert frechet_distance(a, a.mean(0) + 3 * (a - a.mean(0))) == pytest.approx(4 * float(torch.cov(a.T).trace()))


def test_frechet_with_fewer_samples_than_features():
    a, b = normal(10, 30, 0), normal(12, 30, 1)
    assert frechet_distance(a, b) == pytest.approx(by_scipy(a, b), rel=1e-3)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-4)


# ---- density and coverage ---------------------------------------------------------------------------------------------


def slowly(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """Equations 4 and 5, one pair at a time."""
    radius = []
    for i, x in enumerate(real):
        others = sorted(math.dist(x, y) for j, y in enumerate(real) if j != i)
        radius.append(others[k - 1])
    inside = sum(math.dist(x, y) < r for y in fake for x, r in zip(real, radius, strict=True))
    covered = sum(any(math.dist(x, y) < r for y in fake) for x, r in zip(real, radius, strict=True))
    return {"density": inside / (k * len(fake)), "coverage": covered / len(real)}


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("chunk", [7, 1000])
def test_density_and_coverage_against_a_slow_loop(k, chunk):
    real, fake = normal(60, 4, 0), normal(45, 4, 0, scale=0.7, shift=0.2)
    expected = slowly(real.numpy(), fake.numpy(), k)
    assert 0.05 < expected["coverage"] < 1
    assert density_coverage(real, fake, k, chunk) == pytest.approx(expected)


def test_density_and_coverage_of_one_distribution():
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 1500, 3, generator=g, dtype=torch.float64)
    found = density_coverage(real, fake, k=5)
    assert found["density"] == pytest.approx(1, abs=0.05)
    assert found["coverage"] == pytest.approx(1 - 2**-5, abs=0.02)
    far = density_coverage(real, fake + 100, k=5)
    assert far == {"density": 0, "coverage": 0}
    one_mode = density_coverage(real, real[:1].expand(500, 3) + 1e-3, k=5)  # dense enough, and covers next to nothing
    assert one_mode["density"] > 0.5
    assert one_mode["coverage"] < 0.02


# ---- modes -----------------------------------------------------------------------------------------------------------


def drawn(modes: Modes, n: int, seed: int, components: int | None = None) -> torch.Tensor:
    """Points (n, 2) of the first components of the mixture, of all by default."""
    rng = np.random.default_rng(seed)
    k = rng.integers(0, components or len(modes), n)
    return torch.from_numpy(modes.centres[k] + modes.std * rng.standard_normal((n, 2)))


def modes_slowly(points: np.ndarray, modes: Modes) -> dict[str, float]:
    """One point at a time; the divergence by scipy, over all components."""
    counts = [0] * len(modes)
    for p in points:
        distances = [math.dist(p, c) for c in modes.centres]
        if min(distances) < 3 * modes.std:
            counts[distances.index(min(distances))] += 1
    kl = scipy.stats.entropy(counts, [1 / len(modes)] * len(modes))
    return {"modes": sum(c > 0 for c in counts), "high_quality": sum(counts) / len(points), "reverse_kl": kl}


@pytest.mark.parametrize("modes", [ring(), grid()], ids=["ring", "grid"])
def test_modes_of_a_perfect_sampler(modes):
    n, k = 20_000, len(modes)
    runs = [mode_coverage(drawn(modes, n, seed), modes) for seed in range(20)]
    assert {r["modes"] for r in runs} == {k}
    assert np.mean([r["high_quality"] for r in runs]) == pytest.approx(1 - math.exp(-4.5), abs=0.0005)
    floor = (k - 1) / (2 * n)  # 2 n KL is chi-squared with k - 1 degrees of freedom; twenty runs leave 12 % at k = 8
    assert np.mean([r["reverse_kl"] for r in runs]) == pytest.approx(floor, rel=0.4)


@pytest.mark.parametrize("modes", [ring(), grid()], ids=["ring", "grid"])
@pytest.mark.parametrize("components", [1, 3, None])
def test_modes_against_a_slow_loop(modes, components):
    points = drawn(modes, 300, 1, components)
    points[::7] += 2.5 * modes.std  # some leave their component, on one side
    points[:5] = 0.37  # near nothing
    expected = modes_slowly(points.numpy(), modes)
    assert 0.7 < expected["high_quality"] < 0.98
    assert mode_coverage(points, modes) == pytest.approx(expected)
    assert mode_coverage(points.float(), modes) == pytest.approx(expected, rel=1e-5)


def test_modes_of_a_collapsed_sampler():
    for modes in (ring(), grid()):
        found = mode_coverage(drawn(modes, 500, 0, components=1), modes)
        assert found["modes"] == 1
        assert found["reverse_kl"] == pytest.approx(math.log(len(modes)))
        nowhere = mode_coverage(torch.full((9, 2), 0.3), modes)
        assert (nowhere["modes"], nowhere["high_quality"]) == (0, 0)
        assert math.isnan(nowhere["reverse_kl"])


# ---- principal components --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "shape", "k"), [(60, (1, 8, 8), 5), (30, (3, 6, 7), 12), (200, (1, 5, 5), 25)])
def test_pca_against_singular_values(n, shape, k):
    images = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    others = torch.rand(10, *shape, generator=torch.Generator().manual_seed(1))
    x, y = images.flatten(1).double().numpy(), others.flatten(1).double().numpy()
    _, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
    pca = PCA(images, k)
    np.testing.assert_allclose(pca.variances, s[:k] ** 2 / (n - 1), rtol=1e-3)
    scores = (y - x.mean(0)) @ v[:k].T
    np.testing.assert_allclose(pca(others).abs(), np.abs(scores), rtol=1e-2, atol=1e-4)  # up to the sign
    rebuilt = (scores @ v[:k] + x.mean(0)).clip(0, 1)
    np.testing.assert_allclose(pca.reconstruct(others).flatten(1), rebuilt, atol=1e-4)
    assert pca.reconstruct(others).shape == others.shape


def test_pca_of_large_images_is_quick_and_close():
    """More pixels than an eigendecomposition should see: 3 x 32 x 32."""
    images = torch.from_numpy(blobs(200, (3, 32, 32))[0]).float() / 255
    pca = PCA(images, 20)
    x = images.flatten(1).numpy()
    exact = SklearnPCA(20, svd_solver="full").fit(x)
    best = float(((exact.inverse_transform(exact.transform(x)).clip(0, 1) - x) ** 2).mean())
    found = float((pca.reconstruct(images) - images).square().mean())
    assert found == pytest.approx(best, rel=0.02)
    assert torch.equal(PCA(images, 20)(images), pca(images))


def test_pca_shrinks_to_what_the_data_can_give():
    images = torch.rand(6, 1, 8, 8)
    assert len(PCA(images, 50).variances) == 5
    assert PCA(images, 50)(torch.rand(3, 1, 8, 8)).shape == (3, 5)
    torch.testing.assert_close(PCA(images, 50).reconstruct(images), images, rtol=0, atol=1e-4)


def test_gaussian_scores_have_the_variances_of_the_training_scores():
    images = torch.rand(80, 1, 6, 6)
    pca = PCA(images, 4)
    drawn = pca.gaussian_scores(20_000, seed=1)
    torch.testing.assert_close(drawn.var(0), pca(images).var(0), rtol=0.05, atol=0)
    torch.testing.assert_close(drawn.mean(0), torch.zeros(4, dtype=torch.float64), rtol=0, atol=0.02)
    assert torch.equal(drawn, pca.gaussian_scores(20_000, seed=1))


# ---- evaluate --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(one_thread):
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
    assert found["loss_nats"] == pytest.approx(found["nll_nats"] + found["kl_nats"], rel=1e-6)
    assert found == mean_measures(model, data.test)
    assert found["nll_nats"] != mean_measures(model, data.test, seed=1)["nll_nats"]


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

    n = len(y)
    wide = SklearnPCA(50, svd_solver="full").fit(x)
    real, train = wide.transform(y), wide.transform(x[np.linspace(0, len(x) - 1, n).astype(int)])
    fake = wide.transform(model.sample(n, seed=0).flatten(1).double().numpy())
    row = rows[f"frechet-pca50-{n}"]
    assert row["images"] == n == 40
    assert row["value"] == pytest.approx(by_scipy(torch.from_numpy(real), torch.from_numpy(fake)), rel=1e-3)
    assert row["reference"] == pytest.approx(by_scipy(torch.from_numpy(real), torch.from_numpy(train)), rel=1e-3)
    noise = torch.randn(n, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    gauss = noise * np.sqrt(wide.explained_variance_)
    dense = {"value": slowly(real, fake, 5), "baseline": slowly(real, gauss, 5), "reference": slowly(real, train, 5)}
    for measure in ("density", "coverage"):
        row = rows[f"{measure}-pca50-{n}"]
        assert row["better"] == "higher"
        for column, expected in dense.items():  # signs of components may differ, which a Gaussian's draws notice
            if column != "baseline":
                assert row[column] == pytest.approx(expected[measure], abs=0.051)
        assert 0 <= row["baseline"] <= 3


def test_evaluate_is_repeatable_and_made_of_plain_numbers(trained):
    model, data = trained
    rows = lf.evaluate(model, data, "validation", seed=3)
    assert rows == lf.evaluate(model, data, "validation", seed=3)
    assert json.loads(json.dumps(rows)) == rows
    assert {r["images"] for r in rows} == {40}


def test_a_squared_error_has_no_bernoulli_baseline():
    data = tiny_data((1, 8, 8))
    for name, options in (("autoencoder", {"loss": "squared"}), ("vae", {"likelihood": "gaussian"})):
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
            self.images, self.latent_dim = images, 1

        def sample(self, n, *, seed=None):
            return self.images[:n]

    from latentforge.tasks.evaluate import sample_rows

    data = tiny_data((1, 8, 8), n=300)
    train, real, other = (s[torch.arange(len(s))].image for s in (data.train, data.test, data.validation))
    good = {r["measure"].split("-")[0]: r for r in sample_rows(Copies(other), train, real, 0)}
    bad = {r["measure"].split("-")[0]: r for r in sample_rows(Copies(torch.rand_like(other)), train, real, 0)}
    assert good["frechet"]["value"] < 0.5 * bad["frechet"]["value"]
    assert good["density"]["value"] > bad["density"]["value"]
    assert good["coverage"]["value"] > bad["coverage"]["value"]
    assert good["frechet"]["value"] == pytest.approx(good["frechet"]["reference"], rel=0.5)


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
    assert {"frechet-pca2-400", "density-pca2-400", "coverage-pca2-400"} < set(rows)
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
