"""How much of each of two sets lies among the other, in balls around their points, in chunks, so that 10,000 against
10,000 stay far below 1 GB. Higher is better for all four.

precision, recall: Kynkaanniemi et al. 2019, arXiv:1904.06991, eqs. 1 to 3: samples inside a ball of a real image, real
images inside a ball of a sample. density, coverage: Naeem et al. 2020, arXiv:2002.09797, eqs. 4 and 5: real balls per
sample, and real balls with a sample in them; for two draws of one distribution 1 and 1 - 2^-k.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 5


def neighbourhoods(real: Tensor, fake: Tensor, k: int = NEIGHBOURS, chunk: int = 1000) -> dict[str, float]:
    """`precision`, `recall`, `density` and `coverage` of features (N, F) and (M, F), balls reaching to the k-th other
    point of the same set (fewer where a set has no k others)."""
    real, fake = real.double(), fake.double()
    k = min(k, len(real) - 1, len(fake) - 1)
    around_real, around_fake = radii(real, k, chunk), radii(fake, k, chunk)
    inside, precise = 0, 0
    covered, recalled = torch.zeros(len(real), dtype=torch.bool), torch.zeros(len(real), dtype=torch.bool)
    for f, radius in zip(fake.split(chunk), around_fake.split(chunk), strict=True):
        distance = torch.cdist(real, f)
        hit = distance < around_real[:, None]
        inside, precise = inside + int(hit.sum()), precise + int(hit.any(0).sum())
        covered |= hit.any(1)
        recalled |= (distance < radius).any(1)
    return {
        "precision": precise / len(fake), "recall": float(recalled.double().mean()),
        "density": inside / (k * len(fake)), "coverage": float(covered.double().mean()),
    }  # fmt: skip


def radii(points: Tensor, k: int, chunk: int) -> Tensor:
    """The distance of each point (N, F) to its k-th neighbour, itself not counted."""
    return torch.cat([torch.cdist(p, points).kthvalue(k + 1, dim=1).values for p in points.split(chunk)])
