"""Principal components of the training images: a label-free feature space and the trivial baseline of several metrics
beside it. A linear autoencoder can do no better than PCA in squared error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NUMBERS = 2**27  # of images that are made at a time, in double precision


class PCA:
    """The `k` leading principal components of images (N, C, H, W) in [0, 1]; k shrinks to what the data can give. Large
    images go through a randomised decomposition with a fixed seed."""

    def __init__(self, images: Tensor, k: int):
        from sklearn.decomposition import PCA as SklearnPCA  # which a training without it need not wait for

        x = images.flatten(1).numpy()
        self.pca = SklearnPCA(min(k, len(x) - 1, x.shape[1]), random_state=0).fit(x)
        self.variances = torch.from_numpy(self.pca.explained_variance_).double()  # (k,)

    def __call__(self, images: Tensor) -> Tensor:
        """(N, k) float64 scores."""
        return torch.from_numpy(self.pca.transform(images.flatten(1).numpy())).double()

    def reconstruct(self, images: Tensor) -> Tensor:
        """The best linear reconstruction, clipped to [0, 1]."""
        c, h, w = images.shape[1:]
        return self.images(self(images), (c, h, w))

    def images(self, scores: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """(N, C, H, W) images of scores (N, k), clipped to [0, 1]."""
        out = torch.empty(len(scores), *shape)
        size = max(1, NUMBERS // math.prod(shape))
        for images, some in zip(out.split(size), scores.split(size), strict=True):
            flat = torch.from_numpy(self.pca.inverse_transform(some.numpy()))
            images.copy_(flat.view(images.shape)).clamp_(0, 1)
        return out
