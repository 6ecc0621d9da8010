"""Penalties on the gradient of a critic with respect to what it judges, per example (B,).

A critic here is a function of one or more tensors (image, or image and code) to logits (B,). The norm is taken over
every axis but the batch, and over all inputs together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Critic = Callable[..., Tensor]


def squared_gradient(critic: Critic, *inputs: Tensor) -> Tensor:
    """||grad D||^2 at the inputs: R1 at real, R2 at generated ones (Mescheder et al. 2018, arXiv:1801.04406, eq. 9)."""
    points = [x.detach().float().requires_grad_() for x in inputs]
    with torch.autocast(points[0].device.type, enabled=False):  # half precision loses small gradients
        grads = torch.autograd.grad(critic(*points).sum(), points, create_graph=True)
    return torch.stack([g.square().flatten(1).sum(1) for g in grads]).sum(0)


def unit_gradient(critic: Critic, real: tuple[Tensor, ...], fake: tuple[Tensor, ...], share: Tensor) -> Tensor:
    """(||grad D|| - 1)^2 at share * real + (1 - share) * fake, share (B, 1) in [0, 1] (Gulrajani et al. 2017,
    arXiv:1704.00028, equation 3)."""
    between = []
    for a, b in zip(real, fake, strict=True):
        s = share.view(-1, *[1] * (a.dim() - 1))
        between.append(s * a.detach() + (1 - s) * b.detach())
    return (squared_gradient(critic, *between) + 1e-12).sqrt().sub(1).square()
