"""The linear filter of least squared error, solved on pairs of images: the best a restoration can do without a network where
the same happened everywhere in the image (Wiener 1949, with moments taken from samples)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLACES = 256
RIDGE = 1e-6  # of the pixels' mean square, so that a colour that never changes does no harm


class LinearFilter(nn.Module):
    """(B, C, H, W) -> the same, from neighbourhoods of `side` x `side` (odd), borders repeated; the identity until `solve`.
    Nothing that a player descends on: weights are buffers.

    >>> x = torch.rand(50, 1, 6, 6)
    >>> halved = LinearFilter(1, 3)
    >>> halved.solve([(x, 0.5 * x + 0.25)], torch.Generator())
    >>> bool((halved(x) - 0.5 * x - 0.25).abs().max() < 1e-4)
    True
    """

    weight: Tensor  # (C, C, side, side)
    bias: Tensor  # (C,)

    def __init__(self, channels: int, side: int):
        super().__init__()
        weight = torch.zeros(channels, channels, side, side)
        weight[:, :, side // 2, side // 2] = torch.eye(channels)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", torch.zeros(channels))

    def around(self, x: Tensor) -> Tensor:
        return F.pad(x, [self.weight.shape[-1] // 2] * 4, mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(self.around(x.float()), self.weight, self.bias)

    @torch.no_grad()
    def solve(self, pairs: Iterable[tuple[Tensor, Tensor]], generator: torch.Generator) -> None:
        """Least squares over batches of images (seen, wanted), each (N, C, H, W): about PLACES pixels of each image, from a
        grid that lies elsewhere in every batch."""
        moments, products = torch.zeros(()), torch.zeros(())
        side = self.weight.shape[-1]
        for seen, wanted in pairs:
            apart = max(1, round(math.sqrt(wanted[0, 0].numel() / PLACES)))
            down, right = torch.randint(apart, (2,), generator=generator).tolist()
            patches = F.unfold(self.around(seen)[:, :, down:, right:], side, stride=apart)  # (N, C side side, places)
            a = F.pad(patches.transpose(1, 2).flatten(0, 1), (0, 1), value=1.0).cpu().double()
            b = wanted[:, :, down::apart, right::apart].flatten(2).transpose(1, 2).flatten(0, 1).cpu().double()
            moments, products = moments + a.T @ a, products + a.T @ b
        ridge = RIDGE * moments.diagonal()[:-1].mean()
        found = torch.linalg.solve(moments + ridge * torch.eye(len(moments)).to(moments), products)
        self.weight.copy_(found[:-1].T.view_as(self.weight))
        self.bias.copy_(found[-1])
