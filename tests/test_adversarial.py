"""Adversarial losses against torch.nn.BCELoss on probabilities in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from latentforge.parts.adversarial import critic_loss, generator_loss

LOGITS = torch.linspace(-9, 9, 41)


def bce(logits: torch.Tensor, label: float) -> torch.Tensor:
    """-log of the probability the critic gives to `label`, in float64."""
    p = torch.sigmoid(logits.double())
    return nn.BCELoss(reduction="none")(p, torch.full_like(p, label))


def test_critic_loss():
    real, fake = critic_loss(LOGITS, -0.5 * LOGITS)
    torch.testing.assert_close(real.double(), bce(LOGITS, 1.0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fake.double(), bce(-0.5 * LOGITS, 0.0), rtol=1e-5, atol=1e-6)


def test_generator_losses():
    torch.testing.assert_close(generator_loss(LOGITS).double(), bce(LOGITS, 1.0), rtol=1e-5, atol=1e-6)
    assert torch.equal(generator_loss(LOGITS), generator_loss(LOGITS, "nonsaturating"))
    minimax = torch.log(1 - torch.sigmoid(LOGITS.double()))
    torch.testing.assert_close(generator_loss(LOGITS, "minimax").double(), minimax, rtol=1e-5, atol=1e-6)


def test_minimax_is_the_critics_loss_turned_round():
    assert torch.equal(generator_loss(LOGITS, "minimax"), -critic_loss(LOGITS, LOGITS)[1])


def test_gradients():
    """Both forms push the logit up; minimax by D, which vanishes where the critic is sure, nonsaturating by 1 - D."""
    slopes = {}
    for kind in ("minimax", "nonsaturating"):
        logits = LOGITS.clone().requires_grad_()
        (slopes[kind],) = torch.autograd.grad(generator_loss(logits, kind).sum(), logits)
    d = torch.sigmoid(LOGITS)
    torch.testing.assert_close(slopes["minimax"], -d)
    torch.testing.assert_close(slopes["nonsaturating"], -(1 - d))
    assert (slopes["minimax"] < 0).all()
    assert (slopes["nonsaturating"] < 0).all()
    assert slopes["minimax"][0].abs() < 1e-3 < slopes["nonsaturating"][0].abs()


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


def test_sure_and_wrong_stays_finite_and_in_float32():
    wild = torch.tensor([1e4, -1e4], dtype=torch.bfloat16, requires_grad=True)
    for value in (*critic_loss(wild, wild), generator_loss(wild), generator_loss(wild, "minimax")):
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        (slope,) = torch.autograd.grad(value.sum(), wild)
        assert slope.isfinite().all()
