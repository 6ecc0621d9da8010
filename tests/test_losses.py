"""Every adversarial loss against its formula in float64: values, slopes, smoothing, and the roles exchanged."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from latentforge.parts.adversarial import Loss, critic_loss, encoder_loss, generator_loss
from playing import d

KINDS = list(get_args(Loss))
APART = [k for k in KINDS if k != "relativistic"]  # what is said of real and of generated images is separate
R = torch.linspace(-7, 7, 57)
F = torch.linspace(5, -6, 57)

# kind: cost of real, of fake; the generator's; the encoder's, who makes the real pairs
VALUES = {
    "nonsaturating": (
        lambda r, f: -d(r).log(), lambda r, f: -(1 - d(f)).log(), lambda r, f: -d(f).log(), lambda r: -(1 - d(r)).log(),
    ),
    "minimax": (
        lambda r, f: -d(r).log(), lambda r, f: -(1 - d(f)).log(), lambda r, f: (1 - d(f)).log(), lambda r: d(r).log(),
    ),
    "least-squares": (
        lambda r, f: (r - 1) ** 2, lambda r, f: f**2, lambda r, f: (f - 1) ** 2, lambda r: r**2,
    ),
    "hinge": (
        lambda r, f: (1 - r) * (r < 1), lambda r, f: (1 + f) * (f > -1), lambda r, f: -f, lambda r: r,
    ),
    "wasserstein": (lambda r, f: -r, lambda r, f: f, lambda r, f: -f, lambda r: r),
    "relativistic": (
        lambda r, f: -d(r - f).log() / 2, lambda r, f: -d(r - f).log() / 2, lambda r, f: -d(f - r).log(),
        lambda r: 0 * r,
    ),
}  # fmt: skip
# slopes of the critic's loss in r, in f; of the generator's in f; of the encoder's in r
SLOPES = {
    "nonsaturating": (lambda r, f: d(r) - 1, lambda r, f: d(f), lambda r, f: d(f) - 1, lambda r: d(r)),
    "minimax": (lambda r, f: d(r) - 1, lambda r, f: d(f), lambda r, f: -d(f), lambda r: 1 - d(r)),
    "least-squares": (lambda r, f: 2 * (r - 1), lambda r, f: 2 * f, lambda r, f: 2 * (f - 1), lambda r: 2 * r),
    "hinge": (lambda r, f: -1.0 * (r < 1), lambda r, f: 1.0 * (f > -1), lambda r, f: 0 * f - 1, lambda r: 0 * r + 1),
    "wasserstein": (lambda r, f: 0 * r - 1, lambda r, f: 0 * f + 1, lambda r, f: 0 * f - 1, lambda r: 0 * r + 1),
    "relativistic": (
        lambda r, f: d(r - f) - 1, lambda r, f: 1 - d(r - f), lambda r, f: d(f - r) - 1, lambda r: 0 * r,
    ),
}  # fmt: skip


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected.double(), rtol=2e-5, atol=1e-6)


def test_the_table_is_complete():
    assert set(VALUES) == set(SLOPES) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_values(kind):
    real, fake, generator, encoder = VALUES[kind]
    r, f = R.double(), F.double()
    found = critic_loss(R, F, kind)
    close(found[0], real(r, f))
    close(found[1], fake(r, f))
    close(generator_loss(F, kind, R), generator(r, f))
    close(encoder_loss(R, kind), encoder(r))


@pytest.mark.parametrize("kind", KINDS)
def test_slopes(kind):
    # no logit on a kink of the hinge
    r, f = (R + 0.01).requires_grad_(), (F + 0.01).requires_grad_()
    at = (r.detach().double(), f.detach().double())
    in_r, in_f, generator, encoder = SLOPES[kind]
    slopes = torch.autograd.grad(sum(critic_loss(r, f, kind)).sum(), (r, f))
    close(slopes[0], in_r(*at))
    close(slopes[1], in_f(*at))
    (slope,) = torch.autograd.grad(generator_loss(f, kind, r).sum(), f)
    close(slope, generator(*at))
    if kind != "relativistic":  # where it is a constant
        (slope,) = torch.autograd.grad(encoder_loss(r, kind).sum(), r)
        close(slope, encoder(at[0]))


def test_relativistic_halves_are_one_loss():
    real, fake = critic_loss(R, F, "relativistic")
    assert torch.equal(real, fake)
    softplus = torch.log1p((F.double() - R.double()).exp())
    close(real + fake, softplus)


def test_relativistic_generator_needs_the_real_verdict():
    with pytest.raises(ValueError, match="real images"):
        generator_loss(F, "relativistic")


# -- exchanged roles -------------------------------------------------------------------------------------------------
def mirrored(logit: torch.Tensor, kind: str) -> torch.Tensor:
    """The verdict of a critic to whom real is fake and fake real."""
    return 1 - logit if kind == "least-squares" else -logit


@pytest.mark.parametrize("kind", APART)
def test_the_encoder_is_the_generator_of_a_mirrored_critic(kind):
    """The mirrored critic, shown the pairs in exchanged roles, has the same cost; so its generator's loss is what the
    maker of the real pairs descends."""
    real, fake = critic_loss(R, F, kind)
    mirror_real, mirror_fake = critic_loss(mirrored(F, kind), mirrored(R, kind), kind)
    torch.testing.assert_close(mirror_fake, real)
    torch.testing.assert_close(mirror_real, fake)
    torch.testing.assert_close(encoder_loss(R, kind), generator_loss(mirrored(R, kind), kind))


@pytest.mark.parametrize("kind", ["minimax", "wasserstein"])
def test_zero_sum(kind):
    """Encoder and generator together descend what the critic ascends (BiGAN, equation 3)."""
    torch.testing.assert_close(
        encoder_loss(R, kind) + generator_loss(F, kind), -sum(critic_loss(R, F, kind)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pushes_apart_and_together(kind):
    """The critic's descent raises real and lowers fake logits, its opponents' the reverse, at an undecided critic."""
    r, f = torch.tensor([0.2], requires_grad=True), torch.tensor([0.2], requires_grad=True)
    up, down = torch.autograd.grad(sum(critic_loss(r, f, kind)).sum(), (r, f))
    assert up < 0 < down
    assert torch.autograd.grad(generator_loss(f, kind, r).sum(), f)[0] < 0
    if kind != "relativistic":
        assert torch.autograd.grad(encoder_loss(r, kind).sum(), r)[0] > 0


# -- smoothing -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["nonsaturating", "minimax", "least-squares"])
@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_smoothing_moves_the_target_of_real_images_alone(kind, smoothing):
    r, target = R.double(), 1 - smoothing
    expected = -target * d(r).log() - smoothing * (1 - d(r)).log()
    real, fake = critic_loss(R, F, kind, smoothing)
    close(real, (r - target) ** 2 if kind == "least-squares" else expected)
    assert torch.equal(fake, critic_loss(R, F, kind)[1])
    fine = torch.linspace(-6, 6, 4001)
    best = fine[critic_loss(fine, fine, kind, smoothing)[0].argmin()]
    assert (best if kind == "least-squares" else d(best)).item() == pytest.approx(target, abs=5e-3)


# -- shapes and extremes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_several_kinds_of_fakes(kind):
    """(K, B) fakes against (B,) real: row by row what each kind would cost alone."""
    real, fakes = torch.randn(5), torch.randn(3, 5)
    shared, costs = critic_loss(real, fakes, kind)
    fool = generator_loss(fakes, kind, real)
    assert costs.shape == fool.shape == (3, 5)
    for k in range(3):
        one_real, one_fake = critic_loss(real, fakes[k], kind)
        torch.testing.assert_close(costs[k], one_fake)
        torch.testing.assert_close(shared[k] if shared.dim() == 2 else shared, one_real)
        torch.testing.assert_close(fool[k], generator_loss(fakes[k], kind, real))


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_stay_finite_and_in_float32(kind):
    r = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=torch.bfloat16, requires_grad=True)
    f = torch.tensor([1e4, 1e4, -1e4, -1e4], dtype=torch.bfloat16, requires_grad=True)
    for value in (*critic_loss(r, f, kind), generator_loss(f, kind, r), encoder_loss(r, kind)):
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        if value.requires_grad:
            for slope in torch.autograd.grad(value.sum(), (r, f), retain_graph=True, materialize_grads=True):
                assert slope.isfinite().all()


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (0.8, 0.2), (0.05, 0.6)])
def test_best_critic(p, q):
    """D* = p / (p + q), worth -log 4 + 2 JSD (Goodfellow et al. 2014, proposition 1 and theorem 1), for a point that
    is seen with density p among the real and q among the fake, and its complement."""
    logits = torch.zeros(2, requires_grad=True)
    real_weight, fake_weight = torch.tensor([p, 1 - p]), torch.tensor([q, 1 - q])
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        real, fake = critic_loss(logits, logits)
        return (real_weight * real + fake_weight * fake).sum()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    best = real_weight / (real_weight + fake_weight)
    torch.testing.assert_close(torch.sigmoid(logits.detach()), best, atol=1e-4, rtol=0)
    middle = (real_weight + fake_weight) / 2
    jsd = 0.5 * (real_weight * (real_weight / middle).log() + fake_weight * (fake_weight / middle).log()).sum()
    assert -loss().item() == pytest.approx(-math.log(4) + 2 * jsd.item(), abs=1e-5)
