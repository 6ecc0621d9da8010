"""Denoising: the noise, that it is fresh, and that the clean image is what the loss compares with."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

import latentforge as lf
from latentforge.parts.corrupt import corrupt
from latentforge.parts.operators import parse
from playing import assert_same, build, clock, feed, gradients, images, taken

B, Z = 6, 3
DENSE = {"net": "mlp", "hidden": (10,), "latent_dim": Z}
KINDS = ["gaussian", "masking", "salt-and-pepper"]


def within(count: float, n: int, share: float) -> bool:
    return abs(count - n * share) < 5 * math.sqrt(n * share * (1 - share))


# -- the noise -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_gaussian_has_the_sigma_asked_for(sigma):
    x = torch.full((50, 2, 20, 20), 0.5)
    gap = corrupt(x, "gaussian", sigma, clock()) - x
    assert float(gap.std()) == pytest.approx(sigma, rel=0.02)
    assert abs(float(gap.mean())) < 5 * sigma / math.sqrt(gap.numel())
    assert not torch.equal(gap[:, 0], gap[:, 1])  # each channel its own


def test_gaussian_is_clipped():
    x = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 40, 40)
    found = corrupt(x, "gaussian", 0.2, clock())
    assert found.min() == 0
    assert found.max() == 1
    for image, edge in zip(found, (0.0, 1.0), strict=True):
        assert within(int((image == edge).sum()), image.numel(), 0.5)
        left = (image - edge).abs()[image != edge].double()
        assert float(left.square().mean().sqrt()) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_masking(share):
    """That share of the pixels is 0, in all channels together; the rest is untouched."""
    x = images(40, (3, 20, 20)) * 0.9 + 0.05
    found = corrupt(x, "masking", share, clock())
    gone = (found == 0).all(1, keepdim=True)
    assert torch.equal(found, x * ~gone)
    assert within(int(gone.sum()), gone.numel(), share)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_salt_and_pepper(share):
    """That share of the pixels is 0 or 1, one as often as the other; the rest is untouched."""
    x = images(40, (3, 20, 20)) * 0.9 + 0.05
    found = corrupt(x, "salt-and-pepper", share, clock())
    black, white = (found == 0).all(1, keepdim=True), (found == 1).all(1, keepdim=True)
    assert torch.equal(torch.where(black | white, x, found), x)
    assert within(int((black | white).sum()), black.numel(), share)
    assert within(int(white.sum()), int((black | white).sum()), 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_amount_is_no_noise(kind):
    assert torch.equal(corrupt(images(B), kind, 0.0, clock()), images(B))


# -- fresh -----------------------------------------------------------------------------------------------------------
def encoder_sees(model, x: Tensor, round_: int) -> Tensor:
    """What the encoder is fed in that round."""
    seen: list[Tensor] = []
    hook = model.encoder.register_forward_pre_hook(lambda m, given: seen.append(given[0].detach().clone()))
    list(model.play(feed(x), clock(round_)))
    hook.remove()
    (only,) = seen
    return only


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["denoising-autoencoder", "denoising-vae"])
def test_noise_is_drawn_anew_for_every_round_and_image(name, kind):
    model = build(name, **DENSE, corruption=kind, amount=0.3)
    x = images(1).expand(B, 1, 6, 6)
    first, second = encoder_sees(model, x, 1), encoder_sees(model, x, 2)
    assert len({tuple(v.flatten().tolist()) for v in [*first, *second, x[0]]}) == 2 * B + 1
    assert torch.equal(first, encoder_sees(model, x, 1))
    assert 0 <= first.min() <= first.max() <= 1


def test_the_noise_asked_for_is_the_noise_used():
    x = images(B) * 0.9 + 0.05
    model = build("denoising-autoencoder", **DENSE, corruption="masking", amount=0.4)
    assert set((encoder_sees(model, x, 1) / x).round(decimals=4).flatten().tolist()) == {0.0, 1.0}
    plain = build("denoising-autoencoder", **DENSE)
    assert torch.equal(encoder_sees(plain, x, 1), (x + 0.2 * clock(1).randn(B, 1, 6, 6)).clamp(0, 1))


@pytest.mark.parametrize("name", ["denoising-autoencoder", "denoising-vae"])
@pytest.mark.parametrize(("kind", "amount"), [("blur", 0.7), ("faded", 0.4)])
def test_images_may_be_blurred_or_faded(name, kind, amount):
    """As a restorer's operator does it, but as files hold it: cut off at black and white. Fresh noise with each round."""
    model, x = build(name, **DENSE, corruption=kind, amount=amount), images(B)
    expected = parse(f"{kind}:{amount}")(x, clock(1)).clamp(0, 1)
    torch.testing.assert_close(encoder_sees(model, x, 1), expected)
    assert not torch.equal(encoder_sees(model, x, 2), expected)
    assert not torch.allclose(expected, x, atol=0.05)
    assert kind in model.objective()[0][0].formula


# -- the target ------------------------------------------------------------------------------------------------------
def autoencoder_loss(twin, shown: Tensor, target: Tensor, t) -> Tensor:
    return ((1 / (1 + (-twin.decoder(twin.encoder(shown))).exp()) - target) ** 2).sum() / B


def vae_loss(twin, shown: Tensor, target: Tensor, t) -> Tensor:
    mean, log_variance = twin.encoder(shown).chunk(2, 1)
    p = 1 / (1 + (-twin.decoder(mean + (log_variance / 2).exp() * t.randn(B, Z).double())).exp())
    nll = -(target * p.log() + (1 - target) * (1 - p).log()).sum() / B
    return nll + 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum() / B


@pytest.mark.parametrize(
    ("name", "player", "loss"),
    [("denoising-autoencoder", "autoencoder", autoencoder_loss), ("denoising-vae", "vae", vae_loss)],
)
def test_the_target_is_the_clean_image(name, player, loss):
    """Encoder and posterior of the spoilt image, error to the clean one; neither clean nor spoilt throughout."""
    model = build(name, **DENSE, amount=0.4)
    twin, x = copy.deepcopy(model).double(), images(B).double()
    (move,) = model.play(feed(images(B)), clock())
    found = taken(model, move)
    t = clock()
    spoilt = (x + 0.4 * t.randn(B, 1, 6, 6).double()).clamp(0, 1)
    state = t.generator.get_state()
    parts = {player: [*twin.encoder.parameters(), *twin.decoder.parameters()]}
    assert_same(found, gradients({player: loss(twin, spoilt, x, t)}, parts))
    for shown, target in ((spoilt, spoilt), (x, x)):
        t.generator.set_state(state)
        with pytest.raises(AssertionError):
            assert_same(found, gradients({player: loss(twin, shown, target, t)}, parts), close=0.01)


# -- measures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["denoising-autoencoder", "denoising-vae"])
def test_evaluate(name):
    """Besides the family's measures of clean images: how far the spoilt image is from the clean one, and how far what
    is rebuilt from it. The noise follows the seed."""
    model = build(name, **DENSE, amount=0.1).eval()
    batch = next(feed(images(300) * 0.2 + 0.4))
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda m, given: seen.append(given[0]))
    with torch.no_grad():
        torch.manual_seed(0)
        out = model.evaluate(batch)
        (spoilt,) = [s for s in seen if not torch.equal(s, batch.image)]
        rebuilt = model.reconstruct(spoilt)
        torch.manual_seed(0)
        again = model.evaluate(batch)
        torch.manual_seed(1)
        assert not torch.equal(again["spoilt_mse"], model.evaluate(batch)["spoilt_mse"])
    for key, image in (("spoilt_mse", spoilt), ("denoised_mse", rebuilt)):
        assert out[key].shape == (300,)
        torch.testing.assert_close(out[key], ((image - batch.image) ** 2).mean((1, 2, 3)))
        assert torch.equal(out[key], again[key])
    assert float(out["spoilt_mse"].mean()) == pytest.approx(0.01, rel=0.05)
    clean = ((model.reconstruct(batch.image) - batch.image) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(out["reconstruction_mse"], clean)
    assert not torch.allclose(out["denoised_mse"], clean, rtol=1e-4)


@pytest.mark.parametrize("kind", ["masking", "salt-and-pepper"])
def test_more_than_all_pixels_is_refused(kind):
    with pytest.raises(ValueError, match="share of the pixels"):
        lf.create("denoising-autoencoder", image_shape=(1, 6, 6), corruption=kind, amount=1.2)
    assert lf.create("denoising-autoencoder", image_shape=(1, 6, 6), corruption="gaussian", amount=1.2)
