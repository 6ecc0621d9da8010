"""-log p(x | z) against torch.distributions and slow loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

import latentforge as lf
from datasets import FULL, needs_full
from latentforge.clock import Clock
from latentforge.data.batch import Batch
from latentforge.parts.likelihood import bernoulli_floor, bernoulli_nll, gaussian_nll
from playing import build, clock, feed, images

SHAPE = (3, 2, 4, 5)
SMALL, TINY = (1, 4, 4), {"net": "mlp", "hidden": (6,), "latent_dim": 3}


@pytest.fixture
def g() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_bernoulli_on_binary_pixels(g):
    logits = 4 * torch.randn(SHAPE, generator=g)
    x = torch.rand(SHAPE, generator=g).round()
    expected = -Bernoulli(logits=logits.double()).log_prob(x.double()).flatten(1).sum(1)
    torch.testing.assert_close(bernoulli_nll(logits, x).double(), expected, rtol=1e-5, atol=1e-5)


def test_bernoulli_on_grey_pixels_by_a_loop(g):
    logits, x = torch.randn(SHAPE, generator=g), torch.rand(SHAPE, generator=g)
    expected = []
    for a, b in zip(logits.flatten(1).tolist(), x.flatten(1).tolist(), strict=True):
        total = 0.0
        for logit, value in zip(a, b, strict=True):
            p = 1 / (1 + math.exp(-logit))
            total -= value * math.log(p) + (1 - value) * math.log(1 - p)
        expected.append(total)
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(bernoulli_nll(logits, x).double(), expected, rtol=1e-5, atol=1e-5)


def test_bernoulli_of_sure_and_wrong_is_the_logit():
    logits = torch.full((1, 1, 1, 1), 80.0)
    assert bernoulli_nll(logits, torch.zeros(1, 1, 1, 1)) == 80
    assert bernoulli_nll(logits, torch.ones(1, 1, 1, 1)) < 1e-30


@pytest.mark.parametrize("form", ["number", "scalar", "one per pixel"])
def test_gaussian(g, form):
    mean, x = torch.rand(SHAPE, generator=g), torch.rand(SHAPE, generator=g)
    log_sigma = {"number": -0.7, "scalar": torch.tensor(0.4), "one per pixel": torch.randn(SHAPE, generator=g)}[form]
    sigma = torch.as_tensor(log_sigma, dtype=torch.float64).exp()
    expected = -Normal(mean.double(), sigma.expand(SHAPE)).log_prob(x.double()).flatten(1).sum(1)
    torch.testing.assert_close(gaussian_nll(mean, x, log_sigma).double(), expected, rtol=1e-5, atol=1e-5)


def test_gaussian_learns_its_sigma(g):
    """The scalar sigma at which the loss is least is the root mean squared error (Rybkin et al. 2021, equation 5)."""
    mean, x = torch.rand(SHAPE, generator=g), torch.rand(SHAPE, generator=g)
    best = (x - mean).square().mean().sqrt().log().requires_grad_()
    gaussian_nll(mean, x, best).sum().backward()
    torch.testing.assert_close(best.grad, torch.tensor(0.0), atol=1e-3, rtol=0)
    with torch.no_grad():
        least = gaussian_nll(mean, x, best).sum()
        assert gaussian_nll(mean, x, best + 0.1).sum() > least
        assert gaussian_nll(mean, x, best - 0.1).sum() > least


@pytest.mark.parametrize("nll", [bernoulli_nll, lambda a, b: gaussian_nll(a, b, 0.0)])
def test_densities_are_float32_under_half_precision(g, nll):
    out, x = torch.randn(SHAPE, generator=g).bfloat16(), torch.rand(SHAPE, generator=g)
    assert nll(out, x).dtype == torch.float32
    assert nll(out, x).shape == (3,)
    torch.testing.assert_close(nll(out, x), nll(out.float(), x))


# -- the floor -------------------------------------------------------------------------------------------------------
def test_floor_by_a_loop(g):
    x = torch.rand(SHAPE, generator=g)
    rows = x.flatten(1).double().tolist()
    expected = [-sum(v * math.log(v) + (1 - v) * math.log(1 - v) for v in row) for row in rows]
    torch.testing.assert_close(bernoulli_floor(x), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_floor_of_black_and_white_is_zero():
    assert bernoulli_floor(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)).eq(0).all()
    assert bernoulli_floor(torch.full((1, 1, 1, 1), 0.5)).item() == pytest.approx(math.log(2))


def test_floor_is_the_least_value(g):
    x = 0.02 + 0.96 * torch.rand(SHAPE, generator=g)
    best = torch.logit(x.double()).float()
    floor = bernoulli_floor(x)
    torch.testing.assert_close(bernoulli_nll(best, x).double(), floor, rtol=1e-5, atol=1e-5)
    for size in (0.1, 1.0, 5.0):
        for _ in range(20):
            moved = best + size * torch.randn(SHAPE, generator=g)
            assert (bernoulli_nll(moved, x) > floor).all()
    for pixel in range(SHAPE[1] * SHAPE[2] * SHAPE[3]):
        step = torch.zeros(SHAPE).flatten(1)
        step[:, pixel] = 0.3
        for sign in (1, -1):
            assert (bernoulli_nll(best + sign * step.view(SHAPE), x).double() > floor + 1e-4).all()


@needs_full
def test_floor_of_mnist():
    """45.53 nats: no grey-scale Bernoulli loss on the MNIST test set can be lower."""
    test = lf.open_data("mnist", data_dir=FULL).test
    floors, losses = [], []
    for batch in test.batches(2000):
        floors.append(bernoulli_floor(batch.image))
        losses.append(bernoulli_nll(torch.logit(batch.image.double()).clamp(-30, 30).float(), batch.image))
    floor, least = torch.cat(floors), torch.cat(losses).double()
    assert len(floor) == 10_000
    assert float(floor.mean()) == pytest.approx(45.53, abs=0.01)
    assert (least > floor - 1e-3).all()
    assert float(least.mean()) == pytest.approx(float(floor.mean()), abs=1e-3)
    grey = np.arange(1, 255) / 255  # only 256 values occur: the floor again, by counting them
    entropy = -(grey * np.log(grey) + (1 - grey) * np.log1p(-grey))
    counts = np.bincount(test.pixels.numpy().ravel(), minlength=256)[1:255]
    assert float(counts @ entropy) / 10_000 == pytest.approx(float(floor.mean()), abs=1e-4)


# -- the loss of the VAE -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "examples", "weight"),
    [
        ({"beta": 4.0}, 0, 4.0),
        ({"kl_warmup": 200}, 0, 0.0),
        ({"kl_warmup": 200}, 50, 0.25),
        ({"beta": 2.0, "kl_warmup": 200}, 400, 2.0),
    ],
)
def test_the_weight_of_the_kl_term(options, examples, weight):
    model, t, x = build("vae", SMALL, 2.0, **TINY, **options), clock(), images(5, SMALL)
    t.examples = examples
    (move,) = model.play(feed(x), t)
    q = model.encode(x)
    kl = kl_divergence(Normal(q.mean, q.stddev), Normal(0.0, 1.0)).sum(1).mean()
    assert kl > 0.01
    expected = t.logged["reconstruction_nats"] + weight * kl
    torch.testing.assert_close(move["vae"], expected, rtol=1e-5, atol=1e-5)


def test_free_bits_are_per_dimension_in_the_mean_of_a_batch():
    model, t, x = build("vae", SMALL, 2.0, **TINY, free_bits=0.1, beta=3.0), clock(), images(5, SMALL)
    q = model.encode(x)
    each = kl_divergence(Normal(q.mean, q.stddev), Normal(0.0, 1.0))
    costs = sorted(each.mean(0).tolist())
    model.free_bits = costs[1]  # of three: one costs less, one as much, with images on both sides, and one more
    assert costs[0] < costs[1] < costs[2]
    (move,) = model.play(feed(x), t)
    expected = t.logged["reconstruction_nats"] + 3 * (2 * costs[1] + costs[2])
    torch.testing.assert_close(move["vae"], expected, rtol=1e-5, atol=1e-5)


def test_a_deviation_per_pixel():
    model, z, x = build("vae", SMALL, **TINY, likelihood="pixel-gaussian"), torch.randn(5, 3), images(5, SMALL)
    with torch.no_grad():
        model.decoder.layers[-1].bias[16:] -= 4 * torch.arange(16)  # from wide to far below a step of grey
    mean, raw = model.decoder(z).double().chunk(2, 1)
    sigma = 1 / 255 + raw.exp()
    assert sigma.max() > 20 * sigma.min()
    expected = -Normal(mean.sigmoid(), sigma).log_prob(x.double()).flatten(1).sum(1)
    torch.testing.assert_close(model.reconstruction_nll(z, x).double(), expected, rtol=1e-4, atol=1e-3)


# -- black and white pixels, drawn from grey ones ----------------------------------------------------------------------
def test_pixels_are_drawn_anew_every_round_with_their_grey_values_as_probabilities():
    model = lf.create("vae", image_shape=(1, 4, 4), net="mlp", hidden=(6,), latent_dim=2, binarise=True)
    t, x = Clock(3), torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 1, 100, 100)
    draws = []
    for t.round in range(2):
        t.start_round()
        draws.append(model.drawn(x, t))
    assert not torch.equal(*draws)
    for drawn in draws:
        assert set(drawn.unique().tolist()) == {0.0, 1.0}
        assert (drawn.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs().max() < 0.02  # 4 standard errors
    plain = lf.create("vae", image_shape=(1, 4, 4), net="mlp", hidden=(6,), latent_dim=2)
    assert torch.equal(plain.drawn(x, t), x)
    with pytest.raises(ValueError, match="bernoulli"):
        lf.create("vae", image_shape=(1, 4, 4), binarise=True, likelihood="gaussian")


@pytest.mark.parametrize("name", ["vae", "iwae"])
def test_encoder_and_likelihood_see_the_same_draw(name):
    options = {"particles": 1} if name == "iwae" else {}
    model = lf.create(name, image_shape=(1, 4, 4), net="mlp", hidden=(6,), latent_dim=2, binarise=True, **options)
    grey, t, again = torch.rand(5, 1, 4, 4), Clock(4), Clock(4)
    t.start_round(), again.start_round()
    (move,) = model.play(iter([Batch(grey, None, torch.arange(5))]), t)
    x = model.drawn(grey, again)
    q = model.encode(x)
    z = q.sample(again.randn(5, 2))
    kl = q.kl_per_dimension().sum(1) if name == "vae" else q.log_prob(z) - model.log_prior(z)
    expected = -Bernoulli(logits=model.decoder(z)).log_prob(x).flatten(1).sum(1) + kl
    torch.testing.assert_close(move["vae"], expected.mean(), rtol=1e-5, atol=1e-5)


def test_a_triangle_of_ones_is_not_the_standard_prior():
    torch.manual_seed(0)
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=2, prior_scale=(1.0, 1.0, 1.0))
    q = model.encode(torch.rand(5, 1, 8, 8))
    assert not model.standard
    prior = MultivariateNormal(torch.zeros(2), scale_tril=torch.tensor([[1.0, 0], [1, 1]]))
    expected = kl_divergence(MultivariateNormal(q.mean, scale_tril=q.stddev.diag_embed()), prior)
    torch.testing.assert_close(model.kl(q), expected)
    assert lf.create("vae", image_shape=(1, 8, 8), latent_dim=2, prior_scale=(1.0, 1.0)).standard


def test_where_codes_have_no_density_images_have_none():
    assert not lf.create("joint-vae-gan", image_shape=(1, 8, 8)).has_likelihood
    assert lf.create("larsen-vae-gan", image_shape=(1, 8, 8)).has_likelihood


def test_a_model_of_black_and_white_rebuilds_grey_like_any_other():
    torch.manual_seed(0)
    plain = lf.create("vae", image_shape=(1, 8, 8)).eval()
    drawn = lf.create("vae", image_shape=(1, 8, 8), binarise=True).eval()
    drawn.load_state_dict(plain.state_dict())
    x = torch.rand(6, 1, 8, 8)
    batch = Batch(x, None, torch.arange(6))
    found = [m.evaluate(batch)["reconstruction_mse"] for m in (plain, drawn)]
    assert torch.equal(*found)
    assert torch.equal(found[0], (plain.reconstruct(x) - x).square().flatten(1).mean(1))
