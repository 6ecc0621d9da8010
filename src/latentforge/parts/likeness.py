"""How unlike two images are, or their features in a network, per example (B,)."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """||a - b||^2, summed over all axes but the batch: features (B, ...) in, (B,) out (Larsen et al. 2016, equation 6)."""
    return (a - b).float().square().flatten(1).sum(1)


def mean_squared(a: Tensor, b: Tensor) -> Tensor:
    """(B,) mean of (a - b)^2 over all axes but the batch."""
    return (a - b).square().flatten(1).mean(1)


def gram(features: Tensor) -> Tensor:
    """(B, F, h, w) -> (B, F, F): which features occur together, wherever that is; the mean over places of their products (Gatys
    et al. 2016, "Image style transfer using convolutional neural networks", equation 3, per place)."""
    f = features.float().flatten(2)  # (B, F, P)
    with torch.autocast(f.device.type, enabled=False):  # a product would be of half precision else
        return f @ f.mT / f.shape[2]
