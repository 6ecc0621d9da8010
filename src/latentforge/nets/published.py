"""Networks exactly as an article or paper gives them, layer by layer, for its preset. The articles are listed in
docs/articles.md. Sides of 28 pixels give the printed sizes; other sides work too.

TensorFlow's 'same' padding puts the odd pixel of a stride-2 convolution at one side; here it is symmetric, which
moves the receptive fields by half a pixel and changes nothing else.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentforge.nets.conv import down, halvings, up
from latentforge.nets.convolution import Conv2d, ConvTranspose2d
from latentforge.nets.dropout import Dropout
from latentforge.nets.mlp import Critic, MLPEncoder, glorot_


class TanhEncoder(nn.Module):
    """Article 001: one hidden layer, tanh on the posterior's mean and log-variance, weights ~ truncated N(0, .1^2)."""

    def __init__(self, image_shape, out_dim: int, hidden: tuple[int, ...]):
        super().__init__()
        self.net = MLPEncoder(image_shape, out_dim, hidden)
        for m in self.net.modules():
            if isinstance(m, nn.Linear):
                nn.init.trunc_normal_(m.weight, std=0.1, a=-0.2, b=0.2)
                nn.init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.net(x))


def _quarter(side: int) -> int:
    """A side after two halvings that round up: 28 -> 14 -> 7."""
    return ((side + 1) // 2 + 1) // 2


def article_004_encoder(image_shape, out_dim: int) -> nn.Module:
    """Articles 000 and 004: two unpadded 3x3 stride-2 convolutions, 32 and 64."""
    c, h, w = image_shape
    if min(h, w) < 7:
        raise ValueError(f"the encoder of article 004 needs sides of at least 7 pixels, and images are {h}x{w}")
    h, w = [((s - 3) // 2 + 1 - 3) // 2 + 1 for s in (h, w)]
    return glorot_(
        nn.Sequential(
            Conv2d(c, 32, 3, 2), nn.ReLU(True), Conv2d(32, 64, 3, 2), nn.ReLU(True),
            nn.Flatten(), nn.Linear(64 * h * w, out_dim),
        )
    )  # fmt: skip


def article_004_decoder(in_dim: int, image_shape) -> nn.Module:
    """Articles 000 and 004: a 7x7x32 seed, transposed 3x3 convolutions 64, 32 (stride 2) and 1 (stride 1)."""
    c, h, w = image_shape
    half, quarter = ((h + 1) // 2, (w + 1) // 2), (_quarter(h), _quarter(w))
    return glorot_(
        nn.Sequential(
            nn.Linear(in_dim, 32 * math.prod(quarter)), nn.ReLU(), nn.Unflatten(1, (32, *quarter)),
            up(32, 64, 3, quarter, half), nn.ReLU(True), up(64, 32, 3, half, (h, w)), nn.ReLU(True),
            ConvTranspose2d(32, c, 3, 1, 1),
        )
    )  # fmt: skip


def article_003_generator(latent_dim: int, image_shape) -> nn.Module:
    """Article 003: dense 1024, 7x7x128, transposed 4x4 convolutions 64 and 1; batch norm after each ReLU; tanh."""
    c, h, w = image_shape
    half, quarter = (h // 2, w // 2), (h // 2 // 2, w // 2 // 2)
    return glorot_(
        nn.Sequential(
            nn.Linear(latent_dim, 1024), nn.ReLU(), nn.BatchNorm1d(1024),
            nn.Linear(1024, 128 * math.prod(quarter)), nn.ReLU(), nn.BatchNorm1d(128 * math.prod(quarter)),
            nn.Unflatten(1, (128, *quarter)),
            up(128, 64, 4, quarter, half), nn.ReLU(), nn.BatchNorm2d(64),
            up(64, c, 4, half, (h, w)), nn.Tanh(),
        )
    )  # fmt: skip


def article_003_critic(image_shape) -> nn.Module:
    """Article 003: unpadded 5x5 convolutions 32 and 64, each with 2x2 max pooling, dense 1024."""
    c, h, w = image_shape
    if min(h, w) < 16:
        raise ValueError(f"the critic of article 003 needs sides of at least 16 pixels, and images are {h}x{w}")
    h, w = [((s - 4) // 2 - 4) // 2 for s in (h, w)]
    act = nn.LeakyReLU(0.2)
    return glorot_(
        Critic(
            nn.Sequential(Conv2d(c, 32, 5), act, nn.MaxPool2d(2), Conv2d(32, 64, 5)),
            nn.Sequential(act, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * h * w, 1024), act, nn.Linear(1024, 1)),
        )
    )


def article_004_generator(latent_dim: int, image_shape) -> nn.Module:
    """Article 004: a 7x7x256 seed, transposed 5x5 convolutions 128 (stride 1), 64 and 1 (stride 2); tanh."""
    c, h, w = image_shape
    half, quarter = ((h + 1) // 2, (w + 1) // 2), (_quarter(h), _quarter(w))
    act = nn.LeakyReLU(0.2)
    return glorot_(
        nn.Sequential(
            nn.Linear(latent_dim, 256 * math.prod(quarter), bias=False), nn.BatchNorm1d(256 * math.prod(quarter)), act,
            nn.Unflatten(1, (256, *quarter)),
            ConvTranspose2d(256, 128, 5, 1, 2, bias=False), nn.BatchNorm2d(128), act,
            up(128, 64, 5, quarter, half, bias=False), nn.BatchNorm2d(64), act,
            up(64, c, 5, half, (h, w), bias=False), nn.Tanh(),
        )
    )  # fmt: skip


def article_004_critic(image_shape) -> nn.Module:
    """Article 004: 5x5 stride-2 convolutions 64 and 128, dropout .3, global max pooling."""
    c = image_shape[0]
    act = nn.LeakyReLU(0.2)
    return glorot_(
        Critic(
            nn.Sequential(down(c, 64, 5), act, Dropout(0.3), down(64, 128, 5)),
            nn.Sequential(act, Dropout(0.3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(128, 1)),
        )
    )


def _bn_conv(inp: int, out: int) -> list[nn.Module]:
    return [down(inp, out, 5), nn.BatchNorm2d(out), nn.ReLU()]


def larsen_sizes(image_shape) -> list[tuple[int, int]]:
    """Sides of the image and after each of at most three halvings."""
    _, h, w = image_shape
    sizes = halvings(h, w, 5)[:4]
    if len(sizes) < 2:
        raise ValueError(f"images of {h}x{w} are too small for --net larsen; give 8 pixels a side, or --net mlp")
    return sizes


def larsen_encoder(image_shape, out_dim: int) -> nn.Module:
    """Larsen et al. 2016, released code: 5x5 stride-2 convolutions 64, 128, 256 with batch norm, dense 1024."""
    c, *_ = image_shape
    sizes = larsen_sizes(image_shape)
    outs = [64, 128, 256][: len(sizes) - 1]
    layers = [m for a, b in zip([c, *outs], outs, strict=False) for m in _bn_conv(a, b)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(outs[-1] * math.prod(sizes[-1]), 1024), nn.BatchNorm1d(1024), nn.ReLU(),
        nn.Linear(1024, out_dim),
    )  # fmt: skip


def larsen_decoder(in_dim: int, image_shape) -> nn.Module:
    """Larsen et al. 2016, released code: a 256-channel seed, transposed 5x5 convolutions 256, 128, 32, then 5x5."""
    c, *_ = image_shape
    sizes = larsen_sizes(image_shape)
    outs = [256, 256, 128, 32][: len(sizes) - 1] + [32]
    layers: list[nn.Module] = []
    for i in range(len(sizes) - 1, 0, -1):
        a, b = outs[len(sizes) - 1 - i], outs[len(sizes) - i]
        layers += [up(a, b, 5, sizes[i], sizes[i - 1]), nn.BatchNorm2d(b), nn.ReLU()]
    seed = (256, *sizes[-1])
    return nn.Sequential(
        nn.Linear(in_dim, math.prod(seed)), nn.BatchNorm1d(math.prod(seed)), nn.ReLU(), nn.Unflatten(1, seed),
        *layers, Conv2d(32, c, 5, padding=2),
    )  # fmt: skip


def larsen_critic(image_shape) -> nn.Module:
    """Larsen et al. 2016, released code: 5x5 convolution 32, stride-2 128, 256, 256 with batch norm, dense 512. The
    features are the raw output of the last stride-2 convolution; that is the released network for 64x64; for 32x32 the
    release has 192 for the first 256."""
    c, *_ = image_shape
    sizes = larsen_sizes(image_shape)
    outs = [128, 256, 256][: len(sizes) - 1]
    body: list[nn.Module] = [Conv2d(c, 32, 5, padding=2), nn.ReLU()]
    for a, b in zip([32, *outs], outs, strict=False):
        body += _bn_conv(a, b)
    return Critic(
        nn.Sequential(*body[:-2]),
        nn.Sequential(
            *body[-2:], nn.Flatten(), nn.Linear(outs[-1] * math.prod(sizes[-1]), 512), nn.BatchNorm1d(512), nn.ReLU(),
            nn.Linear(512, 1),
        ),
    )  # fmt: skip
