"""Strided convolutional networks for images of any size, odd and rectangular ones included.

The number of halvings follows from the image: sides are halved until the smaller one is at most 7 pixels. The decoder
retraces the encoder's sizes exactly, by the output padding of its transposed convolutions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentforge.nets.convolution import Conv2d, ConvTranspose2d
from latentforge.nets.mlp import Critic, dense


def halvings(height: int, width: int, kernel: int) -> list[tuple[int, int]]:
    """Sizes from the image down: [(H, W), ..., smallest]."""
    if kernel > min(height, width):
        raise ValueError(f"kernel {kernel} is larger than the image ({height}x{width})")
    sizes = [(height, width)]
    while min(sizes[-1]) > 7:
        h, w = ((s + 2 * _pad(kernel) - kernel) // 2 + 1 for s in sizes[-1])
        sizes.append((h, w))
    return sizes


def layout(device: torch.device) -> torch.memory_format:
    """How weights and images (B, C, H, W) lie in memory: channels last; on Apple's GPU in torch's usual order, as the gradients
    of batch norm are wrong or an error there otherwise (pytorch issue 175189; torch up to 2.12 at least)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def strided_last(x: Tensor) -> Tensor:
    """Images (B, C, H, W) whose channels lie last in memory, by their strides too: those of a single channel fit both
    orders, are taken for the other one, and then every layer's gradient meets activations laid out in another way."""
    last = x.shape[1] == 1 and layout(x.device) == torch.channels_last
    return x.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2) if last else x


class Flat(nn.Module):
    """(B, C, H, W) -> (B, H W C): the order in which images lie in memory here, so that nothing is copied."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def _pad(kernel: int) -> int:
    return (kernel - 1) // 2


def down(inp: int, out: int, kernel: int, bias: bool = True) -> nn.Conv2d:
    """Convolution that halves the sides."""
    return Conv2d(inp, out, kernel, stride=2, padding=_pad(kernel), bias=bias)


def up(inp: int, out: int, kernel: int, small, large, bias: bool = True) -> nn.ConvTranspose2d:
    """Transposed convolution from the size `small` (H, W) to `large`, which `down` would shrink to `small`."""
    extra = [b - ((a - 1) * 2 - 2 * _pad(kernel) + kernel) for a, b in zip(small, large, strict=True)]
    return ConvTranspose2d(inp, out, kernel, 2, _pad(kernel), output_padding=(extra[0], extra[1]), bias=bias)


def channels(width: int, steps: int) -> list[int]:
    """width, 2 width, 4 width ... at most 8 width."""
    return [width * min(2**i, 8) for i in range(max(steps, 1))]


class Block(nn.Module):
    """(B, C, H, W) -> the same: x + scale * two convolutions after a rectifier each (He et al. 2016, arXiv:1603.05027),
    the scale learned from 0 up, which stands for normalisation (De & Smith 2020, arXiv:2002.10444, SkipInit)."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            Conv2d(width, width, 3, padding=1),
        )
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x)


class ConvEncoder(nn.Module):
    """(B, C, H, W) -> (B, out_dim): strided convolutions, each followed by `blocks` residual blocks, then one linear
    layer."""

    def __init__(
        self, image_shape, out_dim: int, width: int, kernel: int = 4,
        activation: nn.Module | None = None, blocks: int = 0,
    ):  # fmt: skip
        super().__init__()
        c, h, w = image_shape
        sizes = halvings(h, w, kernel)
        layers: list[nn.Module] = []
        for out in channels(width, len(sizes) - 1)[: len(sizes) - 1]:
            layers += [down(c, out, kernel), activation or nn.ReLU(inplace=True)]
            layers += [Block(out) for _ in range(blocks)]
            c = out
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(Flat(), nn.Linear(c * math.prod(sizes[-1]), out_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(strided_last(x)))


class ConvDecoder(nn.Module):
    """(B, in_dim) -> (B, C, H, W): linear layers, hidden ones of the widths `wide`, then transposed convolutions, each
    after `blocks` residual blocks; no activation at the end."""

    def __init__(
        self, in_dim: int, image_shape, width: int, kernel: int = 4, norm: bool = False, wide: tuple[int, ...] = (),
        blocks: int = 0,
    ):  # fmt: skip
        super().__init__()
        c, h, w = image_shape
        sizes = halvings(h, w, kernel)
        outs = channels(width, len(sizes) - 1)
        self.seed = (outs[-1], *sizes[-1])
        self.head = dense((in_dim, *wide, math.prod(self.seed)), nn.ReLU())
        layers: list[nn.Module] = [nn.BatchNorm2d(outs[-1])] * norm + [nn.ReLU(inplace=True)]
        for i in range(len(sizes) - 1, 0, -1):
            out = outs[i - 2] if i > 1 else c
            layers += [Block(outs[i - 1]) for _ in range(blocks)]
            layers.append(up(outs[i - 1], out, kernel, sizes[i], sizes[i - 1], bias=not norm or i == 1))
            if i > 1:
                layers += [nn.BatchNorm2d(out)] * norm + [nn.ReLU(inplace=True)]
        if len(sizes) == 1:
            layers.append(Conv2d(outs[-1], c, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        c, h, w = self.seed
        x = self.head(z).unflatten(1, (h, w, c)).permute(0, 3, 1, 2)
        return self.body(x.to(memory_format=layout(x.device)))


class ConvCritic(Critic):
    """(B, C, H, W) -> logits (B,). The features are the raw output of the last strided convolution, before its norm
    and activation (as in Larsen et al. 2016)."""

    def __init__(self, image_shape, width: int, kernel: int = 4, norm: bool = False):
        c, h, w = image_shape
        sizes = halvings(h, w, kernel)
        outs = channels(width, len(sizes) - 1)
        layers: list[nn.Module] = []
        for i, out in enumerate(outs):
            layers.append(down(c, out, kernel) if len(sizes) > 1 else Conv2d(c, out, 3, padding=1))
            if i < len(outs) - 1:
                # the first layer has no batch norm (Radford et al. 2016, section 3)
                layers += [nn.BatchNorm2d(out)] * (norm and i > 0) + [nn.LeakyReLU(0.2)]
            c = out
        tail: list[nn.Module] = [nn.BatchNorm2d(c)] * (norm and len(outs) > 1) + [nn.LeakyReLU(0.2)]
        head = nn.Sequential(*tail, Flat(), nn.Linear(c * math.prod(sizes[-1]), 1))
        super().__init__(nn.Sequential(*layers), head)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().features(strided_last(x))
