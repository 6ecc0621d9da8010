"""Noise injection: what no code says of an image, such as the grain of a stroke, is drawn anew for every image.

Karras, Laine & Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks", CVPR 2019,
arXiv:1812.04948, section 3.2: one number per pixel, N(0, 1), times a learned scale per channel, which begins at 0.

Departures: noise comes only inside `injecting`; elsewhere, as in reconstructions and walks, images are those without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class NoiseInjection(nn.Module):
    """(B, C, H, W) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.draw: Callable[..., Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.draw is None:
            return x
        return x + (self.scale * self.draw(len(x), 1, *x.shape[2:])).to(x.dtype)


@contextmanager
def injecting(network: nn.Module, draw: Callable[..., Tensor]) -> Iterator[None]:
    """Inside the block, noise injections of the network take their noise from draw(B, 1, H, W)."""
    layers = [m for m in network.modules() if isinstance(m, NoiseInjection)]
    for layer in layers:
        layer.draw = draw
    try:
        yield
    finally:
        for layer in layers:
            layer.draw = None
