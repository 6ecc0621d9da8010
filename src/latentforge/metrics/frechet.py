"""Frechet distance between the Gaussians fitted to two sets of features (Heusel et al. 2017, arXiv:1706.08500, eq. 6).
Lower is better; it sees two moments only, so a Gaussian fitted to the features scores next to nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) for features (N, F) and (M, F), in float64."""
    a, b = a.double(), b.double()
    s_a, s_b = torch.cov(a.T), torch.cov(b.T)
    # the trace of the root: square roots of the eigenvalues of S_a S_b, through a symmetric matrix of the same ones
    values, vectors = torch.linalg.eigh(s_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ s_b @ root).clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + s_a.trace() + s_b.trace() - 2 * cross)
