"""Distances between two sets of features, by the arithmetic of torchmetrics. Lower is better for both.

frechet: between the Gaussians fitted to the sets (Heusel et al. 2017, arXiv:1706.08500, eq. 6). It sees two moments only,
so a Gaussian fitted to the features scores next to nothing, and it is biased upwards where samples are few.
kernel: the squared maximum mean discrepancy with a cubic kernel (Binkowski et al. 2018, arXiv:1801.01401, section 4),
unbiased, over subsets of 1,000.
Where processes share an evaluation each has all features, so torchmetrics must not gather them from all.
"""

from __future__ import annotations

import warnings

from torch import Tensor, nn

from latentforge.clock import seeded

SUBSETS, SUBSET = 50, 1000


class Given(nn.Module):
    """Stands where torchmetrics expects a network: the features are computed already."""

    def __init__(self, size: int):
        super().__init__()
        self.num_features = size

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) for features (N, F) and (M, F), in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(Given(a.shape[1]), sync_on_compute=False)
    metric.update(a.double(), real=True)
    metric.update(b.double(), real=False)
    return float(metric.compute())


def kernel_distance(a: Tensor, b: Tensor, seed: int = 0) -> float:
    """Mean over seeded subsets of E k(a, a') + E k(b, b') - 2 E k(a, b), k(x, y) = (x . y / F + 1)^3."""
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings(), seeded(seed):
        warnings.simplefilter("ignore")  # that it keeps the features in memory
        size = min(SUBSET, len(a), len(b))
        whole = size == len(a) == len(b)  # all subsets would be the same
        metric = KernelInceptionDistance(Given(a.shape[1]), 1 if whole else SUBSETS, size, sync_on_compute=False)
        metric.update(a.double(), real=True)
        metric.update(b.double(), real=False)
        return float(metric.compute()[0])
