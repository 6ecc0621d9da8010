"""Dense networks. Images are flattened on the way in and given their shape back on the way out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def dense(sizes: tuple[int, ...], activation: nn.Module) -> nn.Sequential:
    """Linear layers with `activation` between them; the last is linear."""
    layers: list[nn.Module] = []
    for a, b in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [nn.Linear(a, b), activation]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class MLPEncoder(nn.Module):
    """(B, C, H, W) -> (B, out_dim) through `hidden`."""

    def __init__(self, image_shape, out_dim: int, hidden: tuple[int, ...]):
        super().__init__()
        self.layers = dense((math.prod(image_shape), *hidden, out_dim), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


class MLPDecoder(nn.Module):
    """(B, in_dim) -> (B, C, H, W) through `hidden`; no activation at the end."""

    def __init__(self, in_dim: int, image_shape, hidden: tuple[int, ...]):
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.layers = dense((in_dim, *hidden, math.prod(image_shape)), nn.ReLU())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).unflatten(1, self.image_shape)


class Critic(nn.Module):
    """(B, C, H, W) -> logits (B,): a body and a head; the features are what the body gives."""

    def __init__(self, body: nn.Module, head: nn.Module):
        super().__init__()
        self.body, self.head = body, head

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (B,), features (B, F) or (B, F, h, w))."""
        f = self.body(x)
        return self.head(f)[:, 0], f

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[0]


class MLPCritic(Critic):
    """(B, C, H, W) -> logits (B,); the features are the last hidden layer before its activation."""

    def __init__(self, image_shape, hidden: tuple[int, ...]):
        super().__init__(
            nn.Sequential(nn.Flatten(), *dense((math.prod(image_shape), *hidden), nn.LeakyReLU(0.2))),
            nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(hidden[-1], 1)),
        )


def glorot_(module: nn.Module) -> nn.Module:
    """Glorot-uniform weights and zero biases, the initialisation the articles' TensorFlow code gets by default."""
    for m in module.modules():
        if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    return module


def normal_(module: nn.Module) -> nn.Module:
    """N(0, .02^2) weights, N(1, .02^2) batch-norm gains, zero biases (Radford et al. 2016, section 4)."""
    for m in module.modules():
        if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(m.weight, 0.0, 0.02)
        elif isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(m.weight, 1.0, 0.02)
        if getattr(m, "bias", None) is not None and isinstance(m.bias, torch.Tensor):
            nn.init.zeros_(m.bias)
    return module


def he_(module: nn.Module) -> nn.Module:
    """Normal weights that keep the scale of what passes a leaky ReLU of slope .2 (He et al. 2015, arXiv:1502.01852), zero
    biases; for networks without normalisation."""
    slope = 0.2
    for m in module.modules():
        if isinstance(m, nn.ConvTranspose2d):  # each output sees 1 / stride^2 of the kernel
            fan = m.in_channels * math.prod(m.kernel_size) / math.prod(m.stride)
            nn.init.normal_(m.weight, 0.0, math.sqrt(2 / ((1 + slope**2) * fan)))
        elif isinstance(m, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, slope)
        if isinstance(m, nn.ConvTranspose2d | nn.Linear | nn.Conv2d) and m.bias is not None:
            nn.init.zeros_(m.bias)
    return module
