"""How much a classifier changes its mind next to an image: a reason to put class borders where no images are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PROBE = 0.1  # length of the step along which the worst direction is found


def virtual_adversarial(
    classify: Callable[[Tensor], Tensor], x: Tensor, log_p: Tensor, noise: Tensor, length: float
) -> Tensor:
    """KL(p(y | x) || p(y | x + r)), (B,) nats, with r the direction of `length` (Euclidean, of all pixels) in which it grows
    fastest, found by one step from `noise` like x (Miyato et al. 2018, arXiv:1704.03976, equations 5 to 7 and algorithm 1).
    classify: images (B, C, H, W) -> log p (B, K). `log_p` is that of x, and constant here.

    Departure: theirs fixes the classifier's own noise and its norms' averages over the passes. Here each pass draws anew, and
    `log_p` may come of a pass over a larger batch. So p(y | x) moves at r = 0 already, and r is mostly the steepest direction
    of that difference, which is of first order; `noise` decides where the classifier has none of its own.

    >>> border = lambda x: torch.stack([x[:, 0, 0, 0], 0 * x[:, 0, 0, 0]], 1).log_softmax(1)
    >>> x = torch.zeros(1, 1, 1, 2)
    >>> float(virtual_adversarial(border, x, border(x), torch.ones_like(x), 0.0))
    0.0
    """
    log_p = log_p.detach()
    with torch.enable_grad():
        r = unit(noise).requires_grad_()
        (slope,) = torch.autograd.grad(kl(log_p, classify(x + PROBE * r)).sum(), r)
    return kl(log_p, classify(x + length * unit(slope)))


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q), (B,) nats, of classes (B, K)."""
    return (log_p.exp() * (log_p - log_q)).sum(1)


def unit(x: Tensor) -> Tensor:
    """Each example (B, ...) divided by its Euclidean norm."""
    norm = x.flatten(1).norm(dim=1).clamp(min=1e-12)
    return (x / norm.view(-1, *[1] * (x.dim() - 1))).detach()
