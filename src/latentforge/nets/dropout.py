"""Dropout (Srivastava et al. 2014, JMLR 15) whose mask is compared byte by byte on the processor.

torch draws its mask there number by number with one thread (on all but Intel's processors). Here eight entries come from
one random integer.

Departures: on the processor the share that is kept is a multiple of 1/256, and what is kept is scaled by the inverse of
just that share, so that the mean stays.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mask(x: Tensor, kept: int) -> Tensor:
    """Of the shape and strides of x: True with probability kept / 256, from the global generator."""
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    flat = words.view(torch.uint8)[: x.numel()] < kept
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if last and not x.is_contiguous():
        b, c, h, w = x.shape
        return flat.view(b, h, w, c).permute(0, 3, 1, 2)
    return flat.view(x.shape)


class Dropout(nn.Dropout):
    """Dropout of the share p that may stay on in eval mode (`always`)."""

    def __init__(self, p: float, always: bool = False):
        super().__init__(p)
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        active = self.training or self.always
        if x.device.type != "cpu" or not active or self.p in (0.0, 1.0):
            return F.dropout(x, self.p, active)
        kept = min(255, max(1, round(256 * (1 - self.p))))
        return x * mask(x, kept) * (256 / kept)
