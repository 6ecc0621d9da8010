"""The networks that judge, the intervals, and the numbers taken of samples, codes and likelihoods: each against an
independent computation, a closed form, or data made so that the answer is known."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
import torch.nn.functional as F

import latentforge as lf
from conftest import tiny_data
from latentforge.data import Dataset, Images, open_data
from latentforge.data.batch import Batch
from latentforge.data.named import CLOTHES, DIGITS
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.metrics import (
    classes,
    codes,
    disentanglement,
    features,
    inception,
    likelihood,
    memorisation,
    reconstruction,
    stacked,
)  # fmt: skip
from latentforge.metrics.intervals import around, around_mean
from latentforge.metrics.network import (
    FEATURES,
    FeatureNet,
    jitter,
    nt_xent,
    shrunk,
    train_classifier,
    train_contrastive,
)
from latentforge.metrics.smoothness import unevenness
from latentforge.metrics.stacked import stacked_modes
from latentforge.metrics.subject import Subject, gaussian_images, short
from latentforge.parts.gaussian import Diagonal, Full


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- intervals --------------------------------------------------------------------------------------------------------


def test_half_samples_find_the_spread_of_a_mean():
    """Of a mean the standard error is known: sd / sqrt(n)."""
    x = normal(400, 1)
    found = around(lambda a: {"mean": float(a.mean())}, (x,), 2000)["mean"]
    assert found["value"] == pytest.approx(float(x.mean()))
    assert found["high"] - found["value"] == pytest.approx(1.96 * float(x.std()) / 20, rel=0.06)
    assert found["value"] - found["low"] == pytest.approx(found["high"] - found["value"])
    mean = around_mean(x[:, 0])
    assert mean["value"] == pytest.approx(found["value"])
    assert mean["high"] - mean["low"] == pytest.approx(2 * 1.96 * float(x.std()) / 20)


@pytest.mark.parametrize(("ones", "of"), [(0, 30), (30, 30), (1, 50), (423, 624)])
def test_the_interval_of_a_share_is_wilsons_and_stays_a_share(ones, of):
    share, low, high = around_mean(torch.arange(of) < ones).values()
    theirs = scipy.stats.binomtest(ones, of).proportion_ci(method="wilson")
    assert share == pytest.approx(ones / of)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=2e-5)  # 1.96 for 1.95996
    assert 0 <= low <= share <= high <= 1


def test_few_halves_make_a_wider_interval():
    """Student's t of the half-samples' number, and not the normal's 1.96."""
    x, drawn = normal(64, 1, seed=3), []

    def mean(a):
        drawn.append(float(a.double().mean()))
        return {"mean": drawn[-1]}

    found = around(mean, (x,), 4)["mean"]
    spread = float(np.std(drawn[1:], ddof=1))
    assert len(drawn) == 5
    assert found["high"] - found["value"] == pytest.approx(scipy.stats.t.ppf(0.975, 3) * spread)


def test_half_samples_cover_what_they_should():
    """In about 95 of 100 draws the interval holds the true difference of two means."""
    hits = 0
    for seed in range(200):
        a, b = normal(80, 1, seed=2 * seed), 0.5 + normal(60, 1, seed=2 * seed + 1)
        found = around(lambda a, b: {"d": float(b.mean() - a.mean())}, (a, b), 100)["d"]
        hits += found["low"] < 0.5 < found["high"]
    assert 0.9 < hits / 200 < 0.99


def test_no_interval_where_none_is_asked_for_or_possible():
    for x, repeats in ((normal(50, 1), 0), (normal(50, 1), 1), (normal(7, 1), 16)):
        assert around(lambda a: {"mean": float(a.mean())}, (x,), repeats) == {"mean": {"value": float(x.mean())}}


# ---- the judging network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 6, 9), (4, 100, 37), (1, 8, 8)])
def test_feature_net_takes_any_image(shape):
    net = FeatureNet(shape, 7)
    x = uniform(3, *shape)
    assert net.over(x).shape == (3, FEATURES)
    assert net.over(x, head=True).shape == (3, 7)
    torch.testing.assert_close(net.over(x, size=2), net.over(x))
    torch.testing.assert_close(net.over(x, head=True), net.head(net.over(x)))


def test_large_images_are_judged_by_what_is_left_of_them_small():
    net, x = FeatureNet((1, 256, 320), 2), uniform(2, 1, 256, 320)
    small = shrunk(x)
    torch.testing.assert_close(small, F.avg_pool2d(x, 2))
    assert shrunk(small) is small
    assert torch.equal(net.over(x), net.over(small))
    assert len(net.trunk) == len(FeatureNet((1, 128, 128), 2).trunk)
    seen = []
    change = lambda images: (seen.append(images.shape[2:]), images)[1]
    train_classifier(Images(x, torch.arange(2)), 2, 2, change=change)
    assert seen == [(128, 160)]


def test_nt_xent_against_a_slow_loop():
    """Equation 1 of Chen et al., one pair at a time."""
    z = normal(8, 5)
    t = 0.3

    def sim(i: int, j: int) -> float:
        return float(z[i] @ z[j] / z[i].norm() / z[j].norm())

    losses = []
    for i in range(8):
        j = (i + 4) % 8
        others = sum(math.exp(sim(i, k) / t) for k in range(8) if k != i)
        losses.append(-math.log(math.exp(sim(i, j) / t) / others))
    assert float(nt_xent(z, t)) == pytest.approx(np.mean(losses))


def test_jitter_moves_images_a_little():
    x = F.interpolate(uniform(20, 1, 5, 5), 30, mode="bilinear")
    torch.manual_seed(0)
    y = jitter(x)
    assert y.shape == x.shape
    assert y.min() >= 0
    assert y.max() <= 1
    moved = (y - x).square().mean((1, 2, 3))
    shuffled = (x.roll(1, 0) - x).square().mean((1, 2, 3))
    assert (moved > 0).all()
    assert moved.mean() < 0.5 * shuffled.mean()


def halves_of(n: int = 160, size: int = 12) -> Images:
    """Two classes that any classifier should tell apart: bright above, bright below."""
    g = torch.Generator().manual_seed(0)
    label = torch.randint(2, (n,), generator=g)
    image = 0.2 * torch.rand(n, 1, size, size, generator=g)
    image[:, :, : size // 2] += 0.7 * (label == 0)[:, None, None, None]
    image[:, :, size // 2 :] += 0.7 * (label == 1)[:, None, None, None]
    return Images(image, label)


def test_classifier_learns_and_repeats():
    data = halves_of()
    state = torch.get_rng_state()
    net = train_classifier(data, 2, 1600, size=32)
    again = train_classifier(data, 2, 1600, size=32)
    assert torch.equal(torch.get_rng_state(), state)
    assert features.error(net, data) == "0.0"
    assert features.fingerprint(net) == features.fingerprint(again)
    other = train_classifier(data, 2, 1600, seed=1, size=32)
    assert features.fingerprint(net) != features.fingerprint(other)


def test_contrast_sets_classes_apart_without_labels():
    data = halves_of()
    unlabelled = Images(data.pixels)
    net = train_contrastive(unlabelled, 3200, size=64)
    f = F.normalize(net.over(data.pixels), dim=1)
    similar = f @ f.T
    same = data.labels[:, None] == data.labels
    assert similar[same].mean() > similar[~same].mean() + 0.2


# ---- extractors --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "latentforge" / "features"


@pytest.mark.parametrize("name", ["labels", "self"])
def test_trained_features_are_kept_and_found_again(name, cache, monkeypatch, capsys):
    data = tiny_data((1, 8, 8))
    monkeypatch.setattr(features, "CLASSIFY", (200, 2))
    monkeypatch.setattr(features, "CONTRAST", (200, 2))
    first = features.extractor(name, data)
    assert f"training the features '{name}' on the images of blobs, once" in capsys.readouterr().err
    (file,) = cache.iterdir()
    x = data.test[torch.arange(5)].image

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(features, "train_classifier", fail)
    monkeypatch.setattr(features, "train_contrastive", fail)
    second = features.extractor(name, data)
    assert not capsys.readouterr().err
    assert torch.equal(first(x), second(x))
    assert first.about == second.about
    assert (first.classify is not None) == (name == "labels")
    with pytest.raises(AssertionError, match="trained again"):  # another set is another file
        features.extractor(name, tiny_data((1, 8, 8), seed=1))
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(AssertionError, match="trained again"):  # a damaged file is not read
        features.extractor(name, data)


def test_a_changed_weight_is_noticed(tmp_path):
    net = features.half(FeatureNet((1, 8, 8), 2))
    features.save(net, tmp_path / "a", {"sha256": features.fingerprint(net)})
    loaded, _ = features.load(tmp_path / "a", (1, 8, 8), 2)
    assert features.fingerprint(loaded) == features.fingerprint(net)
    features.save(FeatureNet((1, 8, 8), 2), tmp_path / "a", {"sha256": features.fingerprint(net)})
    with pytest.raises(ValueError, match="not the weights"):
        features.load(tmp_path / "a", (1, 8, 8), 2)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "latentforge").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(features, "CONTRAST", (100, 1))
    assert features.extractor("self", tiny_data((1, 8, 8))).about.startswith(
        "encoder trained with contrastive learning"
    )


def test_the_error_of_a_classifier_is_taken_in_parts(monkeypatch):
    monkeypatch.setattr("latentforge.data.batch.NUMBERS", 144 * 30)
    sizes = []

    class Brighter:
        """Compares the two halves of an image."""

        def over(self, images, head):
            sizes.append(len(images))
            return torch.stack([half.mean((1, 2, 3)) for half in images.split(6, 2)], 1)

    assert features.error(Brighter(), halves_of()) == "0.0"
    assert sizes == [30, 30, 30, 30, 30, 10]


def test_digits_are_known():
    """The shipped classifier, on digits of the embedded set: its stated error is on MNIST's test images."""
    data = open_data("mnist-5k")
    e = features.extractor("digits", data)
    batch = data.test[torch.arange(len(data.test))]
    assert (e.classify(batch.image).argmax(1) == batch.label).double().mean() > 0.985
    large = F.interpolate(batch.image, (40, 40), mode="bilinear").expand(-1, 3, -1, -1)  # other sizes, in colour
    assert (e.classify(large).argmax(1) == batch.label).double().mean() > 0.97
    assert e(batch.image).shape == (500, FEATURES)
    stated = float(e.about.split("test error ")[1].split("%")[0])
    assert stated < 1


def test_which_features_suit_which_data():
    assert features.choose(open_data("mnist-5k")) == "digits"
    assert features.choose(tiny_data((1, 8, 8))) == "labels"
    unlabelled = tiny_data((1, 8, 8))
    unlabelled.train.labels = None
    assert features.choose(unlabelled) == "self"
    assert features.choose(open_data("ring")) is None


def test_features_that_cannot_be_had(monkeypatch, tmp_path):
    data = tiny_data((1, 8, 8))
    with pytest.raises(InputError, match="Did you mean 'labels'"):
        features.extractor("lables", data)
    data.train.labels = None
    with pytest.raises(InputError, match="use --features self"):
        features.extractor("labels", data)
    with pytest.raises(InputError, match="use --features pca50"):
        features.extractor("self", open_data("ring"))
    monkeypatch.setenv("LATENTFORGE_INCEPTION", str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match=r"cannot read .*none\.pth"):
        features.extractor("inception", data)
    (tmp_path / "none.pth").write_bytes(b"other")
    with pytest.raises(InputError, match="not the published file"):
        features.extractor("inception", data)
    monkeypatch.delenv("LATENTFORGE_INCEPTION")
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"latentforge\[inception\]"):
            features.extractor("inception", data)


def test_the_path_of_the_weights_may_begin_at_home(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LATENTFORGE_INCEPTION", "~/weights.pth")
    monkeypatch.setattr(inception, "check", asked.append)

    def network(size, feature_extractor_weights_path):
        return SimpleNamespace(inception=asked.append(Path(feature_extractor_weights_path)))

    monkeypatch.setattr("torchmetrics.image.fid.FrechetInceptionDistance", network)
    inception.inception()
    assert asked == [tmp_path / "weights.pth"] * 2


# ---- the Gaussian of the table ------------------------------------------------------------------------------------------


def test_gaussian_images_have_the_moments_of_each_class():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], [600, 300]))
    flat = 0.5 + 0.05 * rng.standard_normal((900, 12)) @ rng.standard_normal((12, 12)) / 3 + 0.1 * labels[:, None]
    images = torch.from_numpy(flat.reshape(-1, 1, 3, 4)).float()
    part = Images(images, torch.from_numpy(labels))
    data = Dataset("g", "made up", part, part, part, classes=["a", "b"])
    drawn, classes_ = gaussian_images(data, 20_000, seed=0)
    assert drawn.shape == (20_000, 1, 3, 4)
    assert float((classes_ == 1).double().mean()) == pytest.approx(1 / 3, abs=0.02)
    for k in (0, 1):
        own, here = flat[labels == k], drawn[classes_ == k].flatten(1).double().numpy()
        np.testing.assert_allclose(here.mean(0), own.mean(0), atol=0.003)
        np.testing.assert_allclose(np.cov(here.T), np.cov(own.T), atol=0.15 * np.cov(own.T).max())
    assert torch.equal(drawn, gaussian_images(data, 20_000, seed=0)[0])


def test_numbers_of_images_in_names():
    assert [short(n) for n in (10_000, 1000, 40, 26_000, 1500)] == ["10k", "1k", "40", "26k", "1500"]


# ---- classes ------------------------------------------------------------------------------------------------------------


def test_classifier_score_against_scipy():
    logits = 3 * normal(200, 6)
    p = scipy.special.softmax(logits.numpy(), 1)
    expected = math.exp(np.mean([scipy.stats.entropy(row, p.mean(0)) for row in p]))
    assert classes.classifier_score(logits) == pytest.approx(expected)
    assert classes.classifier_score(50 * torch.eye(10).repeat(7, 1)) == pytest.approx(10)
    assert classes.classifier_score(torch.zeros(9, 10)) == pytest.approx(1)


def test_class_balance():
    shares = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    shown = torch.tensor([0] * 50 + [1] * 40 + [2] * 10)
    found = classes.class_balance(shown, shares)
    assert found["class-kl"] == pytest.approx(scipy.stats.entropy([0.5, 0.4, 0.1], [0.5, 0.25, 0.25]))
    assert found["rarest-class"] == pytest.approx(0.4)
    lost = classes.class_balance(torch.zeros(100, dtype=torch.long), shares)
    assert lost == {"class-kl": pytest.approx(math.log(2)), "rarest-class": 0}
    unexpected = classes.class_balance(torch.tensor([0, 1, 2, 2]), torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))
    assert unexpected["class-kl"] == pytest.approx(2 * 0.25 * math.log(0.5) + 0.5 * math.log(0.5 * 5))


def test_digits_are_counted_where_the_classes_are_digits():
    labels = torch.arange(60) % 10
    part = Images(uniform(60, 1, 28, 28), labels)
    model = lf.create("cvae", image_shape=(1, 28, 28), latent_dim=2, net="mlp", hidden=(4,), num_classes=10).eval()
    model.condition.learn(labels)
    for names, wanted in ((DIGITS, {"score", "class-kl", "rarest-class", "as-asked"}), (CLOTHES, {"score"})):
        data = Dataset("own", "made up", part, part, part, classes=names)
        rows = classes.rows(Subject(model, data, features=("digits",), repeats=0))
        assert {r["measure"].partition("-digits-")[0] for r in rows} == wanted


# ---- memorisation -------------------------------------------------------------------------------------------------------


def test_nearest_distance_against_a_slow_loop():
    train, x = uniform(23, 2, 3, 4), uniform(9, 2, 3, 4, seed=1)
    expected = [min(math.sqrt(float((a - b).square().mean())) for b in train) for a in x]
    for chunk in (5, 100):
        found = memorisation.nearest_distance(x, Images(train), chunk)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    bytes_ = Images((train * 255).round().byte())
    np.testing.assert_allclose(memorisation.nearest_distance(x, bytes_), expected, rtol=0.01)


def test_copies_are_found():
    train, held = uniform(200, 1, 6, 6), uniform(80, 1, 6, 6, seed=1)
    near = memorisation.nearest_distance(held, Images(train))
    fresh = memorisation.nearest_distance(uniform(80, 1, 6, 6, seed=2), Images(train))
    copies = memorisation.nearest_distance(
        (train[:80] + 0.01 * uniform(80, 1, 6, 6, seed=3)).clamp(0, 1), Images(train)
    )
    assert memorisation.memorisation_ratio(fresh, near) == pytest.approx(1, abs=0.05)
    assert memorisation.memorisation_ratio(copies, near) < 0.05


# ---- reconstructions ----------------------------------------------------------------------------------------------------


def test_psnr_by_hand():
    image = uniform(4, 3, 5, 5)
    again = (image + 0.1 * uniform(4, 3, 5, 5, seed=1)).clamp(0, 1)
    expected = [10 * math.log10(1 / float((a - b).square().mean())) for a, b in zip(again, image, strict=True)]
    np.testing.assert_allclose(reconstruction.psnr(again, image), expected, rtol=1e-5)
    assert (reconstruction.psnr(image, image) == 100).all()


def test_ssim_against_its_formula():
    """Wang et al. 2004, equation 13, with an 11x11 Gaussian window of sigma 1.5 at every pixel, the image continued by
    reflection."""
    image, again = uniform(3, 1, 13, 12).double(), uniform(3, 1, 13, 12, seed=1).double()
    again = 0.6 * image + 0.4 * again
    k = torch.arange(11, dtype=torch.float64) - 5
    w = torch.exp(-(k**2) / (2 * 1.5**2))
    w = (torch.outer(w, w) / torch.outer(w, w).sum()).flatten()
    a, b = (
        F.unfold(F.pad(x, (5, 5, 5, 5), mode="reflect"), 11).movedim(1, 2) for x in (image, again)
    )  # (N, places, 121)
    ma, mb = a @ w, b @ w
    va, vb, cov = (a * a) @ w - ma**2, (b * b) @ w - mb**2, (a * b) @ w - ma * mb
    at = (2 * ma * mb + 0.01**2) * (2 * cov + 0.03**2) / ((ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2))
    np.testing.assert_allclose(reconstruction.ssim(again, image), at.mean(1), rtol=1e-6)
    np.testing.assert_allclose(reconstruction.ssim(image, image), 1, atol=1e-9)
    parts = reconstruction.ssim(again.repeat(200, 1, 1, 1), image.repeat(200, 1, 1, 1))  # more than a batch of 500
    np.testing.assert_allclose(parts[:3], reconstruction.ssim(again, image))


def test_ssim_of_large_images_takes_few_at_a_time(monkeypatch):
    from torchmetrics.functional import image

    seen, whole = [], image.structural_similarity_index_measure
    monkeypatch.setattr(
        image, "structural_similarity_index_measure", lambda a, b, **how: (seen.append(len(a)), whole(a, b, **how))[1]
    )
    x = uniform(3, 1, 16, 16)
    expected = reconstruction.ssim(x, x.flip(0))
    monkeypatch.setattr(reconstruction, "at_once", lambda shape, most: 2)
    torch.testing.assert_close(reconstruction.ssim(x, x.flip(0)), expected)
    assert seen == [3, 2, 1]


# ---- likelihood ---------------------------------------------------------------------------------------------------------


class LinearGaussian:
    """x = W z + b + sigma e in four pixels with z ~ N(0, I) in two dimensions: log p(x) is known."""

    def __init__(self):
        self.w = normal(4, 2) * 0.4
        self.b = torch.full((4,), 0.5, dtype=torch.float64)
        self.sigma = 0.3

    def exact(self, x: torch.Tensor) -> torch.Tensor:
        cov = self.w @ self.w.T + self.sigma**2 * torch.eye(4, dtype=torch.float64)
        return -torch.distributions.MultivariateNormal(self.b, cov).log_prob(x.flatten(1).double())

    def model(self, blunt: float) -> lf.Game:
        """A VAE of this shape, its posterior the true one but for its mean shifted and its variance widened by `blunt`."""
        vae = lf.create(
            "vae", image_shape=(1, 2, 2), latent_dim=2, net="mlp", hidden=(4,), likelihood="gaussian", sigma=0.3
        )
        precision = torch.eye(2, dtype=torch.float64) + self.w.T @ self.w / self.sigma**2
        cov = torch.linalg.inv(precision)
        gain = cov @ self.w.T / self.sigma**2
        scale = torch.linalg.cholesky(cov)
        w, b, sigma = self.w.float(), self.b.float(), self.sigma

        def encode(image, y=None):
            mean = ((image.flatten(1) - b) @ gain.float().T) + blunt
            entries = torch.cat([scale.diagonal().log() + blunt, scale[1, 0][None]])
            return Full(mean, entries.float().expand(len(image), 3))

        def reconstruction_nll(z, x, y=None):
            mean = z @ w.T + b
            return (0.5 * ((x.flatten(1) - mean) / sigma) ** 2 + 0.5 * math.log(2 * math.pi) + math.log(sigma)).sum(1)

        vae.encode, vae.reconstruction_nll = encode, reconstruction_nll
        return vae


@pytest.mark.parametrize(("blunt", "tolerance"), [(0.0, 1e-4), (0.3, 0.1)])
def test_importance_sampling_finds_a_likelihood_known_in_closed_form(blunt, tolerance):
    """With the true posterior every weight is p(x): exact. With another it needs its 500 codes."""
    truth = LinearGaussian()
    model = truth.model(blunt)
    x = (truth.b + normal(60, 2, seed=1) @ truth.w.T + truth.sigma * normal(60, 4, seed=2)).float().view(-1, 1, 2, 2)
    batch = Batch(x, None, torch.arange(60))
    found = likelihood.importance_nll(model, batch, 500)
    assert float((found.double() - truth.exact(x)).abs().max()) < 10 * tolerance
    assert float(found.double().mean()) == pytest.approx(float(truth.exact(x).mean()), abs=tolerance)
    few = likelihood.importance_nll(model, batch, 1)
    assert few.mean() >= found.mean() - 1e-4
    assert torch.equal(found, likelihood.importance_nll(model, batch, 500))


@pytest.mark.parametrize("options", [{}, {"prior": "uniform"}, {"posterior": "full"}, {"likelihood": "pixel-gaussian"}])
def test_importance_nll_of_every_kind_of_vae_is_below_its_elbo(options):
    torch.manual_seed(0)
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=3, net="mlp", hidden=(8,), **options)
    batch = tiny_data((1, 8, 8)).test[torch.arange(16)]
    torch.manual_seed(1)
    elbo = torch.stack([model.evaluate(batch)["loss_nats"] for _ in range(50)]).mean(0).detach()
    nll = likelihood.importance_nll(model, batch, 200)
    assert (nll < elbo + 0.2).all()
    assert (elbo - nll).mean() > 0


def test_what_is_done_to_pixels():
    x = uniform(50, 1, 6, 6)
    assert torch.equal(likelihood.prepare(x, "grey", 0), x)
    assert torch.equal(likelihood.prepare(x, "threshold", 0), (x >= 0.5).float())
    drawn = torch.stack([likelihood.prepare(x, "dynamic", seed) for seed in range(200)])
    assert set(drawn.unique().tolist()) == {0, 1}
    assert float((drawn.mean(0) - x).abs().mean()) < 0.04
    static = [likelihood.prepare(x, "static", seed) for seed in (0, 1)]
    assert torch.equal(*static)
    assert not torch.equal(drawn[0], drawn[1])
    eight = (255 * x).round() / 255
    spread = likelihood.prepare(eight, "dequantised", 0)
    assert torch.equal((spread * 256).floor().clamp(max=255), (255 * eight).round())


# ---- codes ----------------------------------------------------------------------------------------------------------------


def test_active_units():
    mean = torch.stack([torch.zeros(500), torch.linspace(-1, 1, 500), 0.05 * normal(500), 0.3 * normal(500, seed=1)], 1)
    assert codes.active_units(mean) == 2


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_mutual_information_of_a_channel_known_in_closed_form(kind):
    """Codes x + noise with x ~ N(0, s^2): information 1/2 log(1 + s^2 / n^2) per dimension."""
    n, z, signal, noise = 800, 2, 1.0, 0.5
    mean = signal * normal(n, z).float()
    log_std = torch.full((n, z), math.log(noise))
    q = Diagonal(mean, 2 * log_std) if kind == "diagonal" else Full(mean, torch.cat([log_std, torch.zeros(n, 1)], 1))
    found = float(codes.mutual_information(q, normal(n, z, seed=1).float()).mean())
    assert found == pytest.approx(z * 0.5 * math.log(1 + signal**2 / noise**2), rel=0.08)
    silent = Diagonal(torch.zeros(n, z), 2 * log_std)
    assert float(codes.mutual_information(silent, normal(n, z).float()).mean()) == pytest.approx(0, abs=1e-3)


def test_probes_against_scikit_learn():
    g = np.random.default_rng(0)
    label = g.integers(0, 3, 300)
    x = g.standard_normal((300, 5)) + 1.2 * np.eye(5)[label]
    a, b = torch.from_numpy(x[:200]), torch.from_numpy(x[200:])
    y = torch.from_numpy(label[:200])
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    expected = KNeighborsClassifier(1).fit(a, y).predict(b)
    assert np.array_equal(codes.one_nn(a, y, b, chunk=7), expected)
    right = float((codes.linear_probe(a, y, b).numpy() == label[200:]).mean())
    assert right > 0.55
    a, b = a * torch.tensor([1, 1e4, 1, 1, 1]), b * torch.tensor([1, 1e4, 1, 1, 1])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(a.numpy(), y.numpy())
    assert np.array_equal(codes.linear_probe(a, y, b).numpy(), probe.predict(b.numpy()))
    assert codes.linear_probe(a, y, b).shape == (100,)


# ---- smoothness -----------------------------------------------------------------------------------------------------------


def test_unevenness():
    even = torch.linspace(0, 1, 5)[:, None].expand(5, 3)
    jump = torch.tensor([0.0, 0, 0, 1, 1])[:, None].expand(5, 3)
    still = torch.ones(5, 3)
    np.testing.assert_allclose(unevenness(torch.stack([even, jump, still])), [1, 4, 1])


# ---- disentanglement --------------------------------------------------------------------------------------------------------


def factors(n: int = 1500) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(size=(n, 3)))


def test_one_code_per_factor_scores_near_one_and_a_rotation_does_not():
    v = factors()
    apart = disentanglement.scores(torch.cat([v, 0.1 * normal(len(v), 2)], 1), v)
    assert min(apart.values()) > 0.8
    turn = torch.linalg.qr(normal(3, 3)).Q
    mixed = disentanglement.scores(v @ turn, v)
    assert mixed["mig"] < 0.35
    assert mixed["sap"] < 0.5
    assert mixed["dci-disentanglement"] < 0.6
    assert mixed["dci-informativeness"] > 0.8  # a rotation loses nothing
    noise = disentanglement.scores(normal(len(v), 4), v)
    assert noise["mig"] < 0.05
    assert noise["sap"] < 0.05
    assert noise["dci-informativeness"] < 0.05


def test_mig_and_sap_by_hand():
    v = factors(400)
    z = torch.stack([v[:, 0] + 0.2 * v[:, 1], v[:, 1], v[:, 2] ** 2], 1)
    bins = [[np.digitize(x, np.linspace(x.min(), x.max(), 21)[1:-1]) for x in m.T.numpy()] for m in (z, v)]
    gaps = []
    for f in bins[1]:
        known = sorted((sklearn.metrics.mutual_info_score(c, f) for c in bins[0]), reverse=True)
        gaps.append((known[0] - known[1]) / scipy.stats.entropy(np.bincount(f)))
    assert disentanglement.mig(z, v) == pytest.approx(np.mean(gaps), abs=1e-3)
    r2 = np.array([[scipy.stats.pearsonr(c, f)[0] ** 2 for c in z.T.numpy()] for f in v.T.numpy()])
    r2.sort(1)
    assert disentanglement.sap(z, v) == pytest.approx((r2[:, -1] - r2[:, -2]).mean())


def test_dci_by_hand():
    """Weights as the paper defines them: disentanglement over codes, completeness over factors."""
    weight = np.array([[0.9, 0.1], [0.0, 0.8], [0.1, 0.1]])
    p = weight / weight.sum(1, keepdims=True)
    expected = 1 - np.array([scipy.stats.entropy(row, base=2) for row in p])
    np.testing.assert_allclose(disentanglement.concentration(weight), expected, atol=1e-9)


def test_disentanglement_is_of_codes_and_completeness_of_factors():
    """Every code follows one factor, and one factor has two codes."""
    v = factors(800)[:, :2]
    found = disentanglement.scores(torch.cat([v[:, :1] + 0.1 * normal(len(v), 2), v[:, 1:]], 1), v)
    assert found["dci-completeness"] < found["dci-disentanglement"] - 0.1


def test_codes_that_never_change_follow_no_factor():
    found = disentanglement.scores(torch.zeros(60, 2, dtype=torch.float64), factors(60))
    assert all(math.isfinite(v) for v in found.values())
    assert found["dci-disentanglement"] == found["dci-completeness"] == 0


# ---- stacked digits ---------------------------------------------------------------------------------------------------------


def test_stacked_modes_of_a_perfect_sampler():
    """numbers: 26,000 samples leave a divergence of about (K - 1) / 2N = .0192."""
    digits = torch.randint(10, (26_000, 3), generator=torch.Generator().manual_seed(0))
    found = stacked_modes(digits)
    assert found["stacked-modes"] == 1000
    assert found["stacked-kl"] == pytest.approx(999 / 52_000, rel=0.1)
    counts = np.bincount((digits.numpy() * [100, 10, 1]).sum(1), minlength=1000)
    assert found["stacked-kl"] == pytest.approx(scipy.stats.entropy(counts, np.ones(1000)))
    one = stacked_modes(torch.zeros(50, 3, dtype=torch.long))
    assert one == {"stacked-modes": 1, "stacked-kl": pytest.approx(math.log(1000))}


def test_stacked_samples_of_two_seeds_have_nothing_in_common(monkeypatch):
    monkeypatch.setattr(stacked, "SAMPLES", 4000)
    part, seeds = Images(uniform(20, 3, 4, 4)), []

    class Noting(Game):
        def sample(self, n, *, seed=None):
            seeds.append(seed)
            return torch.zeros(n, 3, 4, 4)

    for seed in (0, 1):
        s = Subject(Noting(), Dataset("stacked-mnist", "made up", part, part, part), seed=seed)
        s.made["digits"] = features.Extractor("digits", "made up", lambda x: x, lambda x: torch.zeros(len(x), 10))
        assert len(stacked.rows(s)) == 2
    assert len(set(seeds)) == 4
