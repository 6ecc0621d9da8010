"""Classifiers for few labels: noise on their layers, and features before the last one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentforge.nets.conv import Flat, channels, halvings
from latentforge.nets.mlp import dense


class GaussianNoise(nn.Module):
    """Adds noise of this standard deviation while training, from the global generator."""

    def __init__(self, stddev: float):
        super().__init__()
        self.stddev = stddev

    def forward(self, x: Tensor) -> Tensor:
        return x + self.stddev * torch.randn_like(x) if self.training and self.stddev else x


class NormedLinear(nn.Linear):
    """Linear with weight norm: w = gain v / ||v|| for each output (Salimans & Kingma 2016, arXiv:1602.07868, equation 2).
    torch's own is a parametrisation, which cannot be pickled."""

    def __init__(self, inp: int, out: int):
        super().__init__(inp, out)
        self.gain = nn.Parameter(self.weight.detach().norm(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * (self.gain / self.weight.norm(dim=1))[:, None], self.bias)


class Classifier(nn.Module):
    """(B, C, H, W) -> logits (B, K). Dense: the widths `hidden`, with weight norm, and `noise` on the input of each but the
    first (Salimans et al. 2016, arXiv:1606.03498, and their code for MNIST). Convolutional: strided convolutions of `width`,
    twice as many ... channels with batch norm, then a dense layer of the last of `hidden`. `features` also gives activations
    (B, F) of the last hidden layer, before its noise."""

    def __init__(
        self, net: str, image_shape: tuple[int, int, int], classes: int, hidden: tuple[int, ...], width: int, noise: float,
        input_noise: float,
    ):  # fmt: skip
        super().__init__()
        c, h, w = image_shape
        layers: list[nn.Module] = [GaussianNoise(input_noise)]
        if net == "conv":
            sizes = halvings(h, w, 3)
            for i, out in enumerate(channels(width, len(sizes) - 1)):
                kernel, stride = (3 if i else 5), (2 if len(sizes) > 1 else 1)
                layers += [nn.Conv2d(c, out, kernel, stride, kernel // 2), nn.BatchNorm2d(out), nn.LeakyReLU(0.1)]
                c = out
            widths: tuple[int, ...] = (c * math.prod(sizes[-1]), hidden[-1])
            layers.append(Flat())
        else:
            widths = (c * h * w, *hidden)
            layers.append(nn.Flatten())
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            layers += [GaussianNoise(noise)] * bool(i) + [NormedLinear(a, b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(GaussianNoise(noise), NormedLinear(widths[-1], classes))

    def eyes(self) -> nn.Module:
        """The layers that look at images: the convolutions, or all hidden ones of a dense network."""
        seen = [i for i, layer in enumerate(self.body) if isinstance(layer, nn.Conv2d)]
        return self.body[: seen[-1] + 1] if seen else self.body

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (B, K), features (B, F))."""
        f = self.body(x)
        return self.head(f), f

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[0]


class SoftGenerator(nn.Module):
    """(B, in_dim) -> logits (B, C, H, W): dense, softplus and batch norm (the generator of the same code)."""

    def __init__(self, in_dim: int, image_shape: tuple[int, int, int], hidden: tuple[int, ...]):
        super().__init__()
        self.image_shape = tuple(image_shape)
        layers: list[nn.Module] = []
        for a, b in zip((in_dim, *hidden[:-1]), hidden, strict=True):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.Softplus()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], math.prod(image_shape)))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).unflatten(1, self.image_shape)


class ClassedEncoder(nn.Module):
    """(B, ...) of `size` numbers and a class, known or each of K, to out_dim numbers; dense."""

    def __init__(self, size: int, classes: int, out_dim: int, hidden: tuple[int, ...]):
        super().__init__()
        self.of_input, self.of_class = nn.Linear(size, hidden[0]), nn.Embedding(classes, hidden[0])
        self.rest = nn.Sequential(nn.ReLU(), dense((*hidden, out_dim), nn.ReLU()))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, out_dim) under the classes y (B,), or (B, K, out_dim) under every one; the first layer sees each input once."""
        h = self.of_input(x.flatten(1))
        return self.rest(h[:, None] + self.of_class.weight if y is None else h + self.of_class(y))
