"""Density and coverage of samples among real images (Naeem et al. 2020, arXiv:2002.09797, eqs. 4 and 5), in chunks, so
that 10,000 against 10,000 stay far below 1 GB. Higher is better; for two draws of one distribution density is 1 and
coverage 1 - 2^-k."""

from __future__ import annotations

import torch
from torch import Tensor


def density_coverage(real: Tensor, fake: Tensor, k: int = 5, chunk: int = 1000) -> dict[str, float]:
    """`density` and `coverage` of fake features (M, F) with the k-th neighbour balls of real features (N, F)."""
    real, fake = real.double(), fake.double()
    radius = torch.cat([torch.cdist(r, real).kthvalue(k + 1, dim=1).values for r in real.split(chunk)])  # itself is one
    inside, covered = 0, torch.zeros(len(real), dtype=torch.bool)
    for f in fake.split(chunk):
        hit = torch.cdist(real, f) < radius[:, None]
        inside += int(hit.sum())
        covered |= hit.any(1)
    return {"density": inside / (k * len(fake)), "coverage": float(covered.double().mean())}
