"""A network from image to image of the same size, whatever that is: encoder and decoder with skip connections.

Ronneberger, Fischer & Brox 2015, arXiv:1505.04597, made small: skips are added instead of concatenated (Chaurasia &
Culurciello 2017, arXiv:1707.03718, LinkNet), blocks are residual, and sides are halved once before the wide layers,
where most of the time would go.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from latentforge.nets.conv import Block, strided_last
from latentforge.nets.convolution import Conv2d

SCALE = 0.3  # of residual blocks at the start: .3 dB after a minute over 0, which suits deeper networks


class UNet(nn.Module):
    """(B, C_in, H, W) -> (B, C_out, H, W) for any H and W, no activation at the end. `widths` are the channels at each size,
    the image's own first; `blocks` residual blocks at each but the first, on the way down and on the way up."""

    def __init__(self, channels_in: int, channels_out: int, widths: tuple[int, ...], blocks: int = 1):
        super().__init__()
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.first = Conv2d(channels_in, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Sequential(nn.ReLU(), Conv2d(a, b, 3, stride=2, padding=1), *[Block(b) for _ in range(blocks)])
            for a, b in pairs
        )
        self.up = nn.ModuleList(Conv2d(b, a, 1) for a, b in pairs)
        self.after = nn.ModuleList(nn.Sequential(*[Block(a) for _ in range(blocks)]) for a in widths[:-1])
        for block in (m for m in self.modules() if isinstance(m, Block)):
            nn.init.constant_(block.scale, SCALE)
        self.last = nn.Sequential(nn.ReLU(), Conv2d(widths[0], channels_out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(strided_last(x))
        skips = []
        for layer in self.down:
            skips.append(x)
            x = layer(x)
        for up, after, skip in zip(self.up[::-1], self.after[::-1], skips[::-1], strict=True):  # type: ignore[arg-type]
            x = after(skip + F.interpolate(up(x), size=skip.shape[2:], mode="nearest"))
        return self.last(x)


def widths_of(height: int, width: int, fine: int, wide: int) -> tuple[int, ...]:
    """`fine` channels at the image's size, `wide` at half of it, then twice that, down to sides of at most 4."""
    out, side = [fine], min(height, width)
    while side > 4:
        side = -(-side // 2)
        out.append(wide if len(out) == 1 else 2 * wide)
    return tuple(out)
