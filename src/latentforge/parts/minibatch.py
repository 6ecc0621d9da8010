"""Minibatch discrimination: a layer by which a critic sees how alike the examples of a batch are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchDiscrimination(nn.Module):
    """Features (B, F) -> (B, F + kernels): Salimans et al. 2016, arXiv:1606.03498, section 3.2.

    M = f T with T (F, kernels, size); o_b(i) = sum over j != i of exp(-||M_ib - M_jb||_1), appended to f. The example
    itself, whose term is always 1, is left out, and a bias per kernel is learned, as in the authors' code.
    """

    def __init__(self, features: int, kernels: int, size: int = 5):
        super().__init__()
        self.project = nn.Linear(features, kernels * size, bias=False)
        self.bias = nn.Parameter(torch.zeros(kernels))
        self.kernels = kernels

    def forward(self, f: Tensor) -> Tensor:
        m = self.project(f).float().unflatten(1, (self.kernels, -1))  # (B, K, S)
        distance = (m[:, None] - m[None]).abs().sum(3)  # (B, B, K)
        likeness = (-distance).exp().sum(1) - 1 + self.bias
        return torch.cat([f, likeness.to(f.dtype)], 1)
