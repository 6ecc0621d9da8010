"""What spoils an image: noise that denoising models learn to undo. Images (B, C, H, W) in [0, 1], to the same."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latentforge.clock import Clock

Corruption = Literal["gaussian", "masking", "salt-and-pepper", "blur", "faded"]
NOISES = ("gaussian", "masking", "salt-and-pepper")  # the others are operators (parts/operators.py)


def corrupt(x: Tensor, kind: str, amount: float, t: Clock) -> Tensor:
    """gaussian: x + amount N(0, 1), clipped to [0, 1]. masking: a share `amount` of the pixels set to 0, all channels
    together (Vincent et al. 2010, section 3.3). salt-and-pepper: such a share set to 0 or 1, with even odds."""
    n, _, h, w = x.shape
    if kind == "gaussian":
        return (x + amount * t.randn(*x.shape)).clamp(0, 1)
    hit = t.rand(n, 1, h, w) < amount
    if kind == "masking":
        return x.masked_fill(hit, 0.0)
    return torch.where(hit, (t.rand(n, 1, h, w) < 0.5).to(x), x)
