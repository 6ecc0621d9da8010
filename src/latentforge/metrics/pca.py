"""Principal components of the training images: a label-free feature space and the trivial baseline of this file's
neighbours. A linear autoencoder can do no better than PCA in squared error."""

from __future__ import annotations

import torch
from torch import Tensor


class PCA:
    """The `k` leading principal components of images (N, C, H, W) in [0, 1]; k shrinks to what the data can give."""

    def __init__(self, images: Tensor, k: int):
        x = images.flatten(1).double()
        self.mean = x.mean(0)
        covariance = (x - self.mean).T @ (x - self.mean) / max(len(x) - 1, 1)
        values, vectors = torch.linalg.eigh(covariance)
        k = min(k, len(x) - 1, x.shape[1])
        self.components = vectors[:, -k:].flip(1)  # (C H W, k)
        self.variances = values[-k:].flip(0).clamp(min=0)  # (k,)

    def __call__(self, images: Tensor) -> Tensor:
        """(N, k) float64 scores."""
        return (images.flatten(1).double() - self.mean) @ self.components

    def reconstruct(self, images: Tensor) -> Tensor:
        """The best linear reconstruction, clipped to [0, 1]."""
        flat = self(images) @ self.components.T + self.mean
        return flat.clamp(0, 1).float().view_as(images)

    def gaussian_scores(self, n: int, seed: int) -> Tensor:
        """(n, k) draws from the Gaussian with the training scores' variances: samples without any learning."""
        noise = torch.randn(n, len(self.variances), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return noise * self.variances.sqrt()
