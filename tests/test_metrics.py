"""Each metric against an independent computation: scipy, torchmetrics, scikit-learn, or a slow loop."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import prdc
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from sklearn.decomposition import PCA as SklearnPCA

from latentforge.data.modes import Modes, grid, ring
from latentforge.data.synthetic import blobs
from latentforge.metrics.coverage import neighbourhoods
from latentforge.metrics.distance import frechet_distance, kernel_distance
from latentforge.metrics.modes import mode_coverage
from latentforge.metrics.pca import PCA

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


# ---- kernel distance -------------------------------------------------------------------------------------------------


def mmd_slowly(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased estimator of Gretton et al. 2012, equation 4, one pair at a time, with the cubic kernel."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within += sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_kernel_distance_against_a_slow_loop():
    """Every subset is the whole set where the sets are smaller than a subset."""
    a, b = normal(40, 6, 0), normal(40, 6, 1, shift=0.4)
    assert kernel_distance(a, b) == pytest.approx(mmd_slowly(a.numpy(), b.numpy()), rel=1e-6)
    some = [kernel_distance(a, b[:30]), kernel_distance(a, b[:30], seed=1)]  # sets of two sizes have many subsets
    assert some[0] != some[1]


def test_kernel_distance_is_unbiased_and_repeatable():
    one = [kernel_distance(*torch.randn(2, 200, 4, generator=torch.Generator().manual_seed(i))) for i in range(40)]
    assert abs(np.mean(one)) < 3 * np.std(one) / 40**0.5
    a, b = normal(1500, 4, 0), normal(1300, 4, 1)
    state = torch.get_rng_state()
    assert kernel_distance(a, b, seed=2) == kernel_distance(a, b, seed=2) != kernel_distance(a, b, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


# ---- precision, recall, density, coverage -----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("chunk", [7, 1000])
def test_neighbourhoods_against_the_authors_package(k, chunk):
    """prdc is the code of Naeem et al."""
    real, fake = normal(60, 4, 0), normal(45, 4, 0, scale=0.7, shift=0.2)
    expected = prdc.compute_prdc(real.numpy(), fake.numpy(), k)
    assert min(expected.values()) > 0.05
    assert expected["coverage"] < 1
    assert neighbourhoods(real, fake, k, chunk) == pytest.approx(expected)


def test_neighbourhoods_of_one_distribution():
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 1500, 3, generator=g, dtype=torch.float64)
    found = neighbourhoods(real, fake, k=5)
    assert found["density"] == pytest.approx(1, abs=0.05)
    assert found["coverage"] == pytest.approx(1 - 2**-5, abs=0.02)
    assert found["precision"] > 0.9
    assert found["recall"] > 0.9
    assert set(neighbourhoods(real, fake + 100, k=5).values()) == {0}
    one_mode = neighbourhoods(real, real[:1] + 1e-3 * fake[:500], k=5)  # dense and precise, and covers next to nothing
    assert one_mode["density"] > 0.5
    assert one_mode["precision"] == 1
    assert one_mode["coverage"] < 0.02
    assert one_mode["recall"] < 0.02


def test_neighbourhoods_stay_small_in_memory():
    """10,000 against 10,000 in less than 1 GB: the whole matrix of distances alone would be 0.8 GB, and three are needed."""
    code = """
import resource, torch
from latentforge.metrics.coverage import neighbourhoods
torch.set_num_threads(1)
a, b = torch.randn(2, 10_000, 64)
neighbourhoods(a[:100], b[:100])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
neighbourhoods(a, b)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 1.0


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


def test_pca_makes_large_images_a_few_at_a_time(monkeypatch):
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pca, made = PCA(images, 5), []
    whole, inverse = pca.reconstruct(images), pca.pca.inverse_transform
    monkeypatch.setattr("latentforge.metrics.pca.NUMBERS", 8 * 64)
    monkeypatch.setattr(pca.pca, "inverse_transform", lambda scores: (made.append(len(scores)), inverse(scores))[1])
    torch.testing.assert_close(pca.reconstruct(images), whole)
    assert made == [8, 8, 4]


def test_pca_shrinks_to_what_the_data_can_give():
    images = torch.rand(6, 1, 8, 8)
    assert len(PCA(images, 50).variances) == 5
    assert PCA(images, 50)(torch.rand(3, 1, 8, 8)).shape == (3, 5)
    torch.testing.assert_close(PCA(images, 50).reconstruct(images), images, rtol=0, atol=1e-4)
