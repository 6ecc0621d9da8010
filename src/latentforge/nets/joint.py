"""A critic of pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentforge.nets.conv import ConvEncoder
from latentforge.nets.mlp import dense


class JointCritic(nn.Module):
    """Image (B, C, H, W) and code (B, Z) -> logits (B,): dense layers over both; with `conv` over the output of an image
    part and of a linear layer on the code."""

    def __init__(self, net: str, image_shape, latent_dim: int, hidden: tuple[int, ...], width: int):
        super().__init__()
        act = nn.LeakyReLU(0.2)
        self.image: nn.Module = nn.Flatten()
        self.code: nn.Module = nn.Identity()
        size = math.prod(image_shape) + latent_dim
        if net == "conv":
            self.image = nn.Sequential(ConvEncoder(image_shape, hidden[0], width, activation=act), act)
            self.code = nn.Sequential(nn.Linear(latent_dim, hidden[0]), act)
            size = 2 * hidden[0]
        self.head = dense((size, *hidden, 1), act)

    @property
    def body(self) -> nn.Module:
        """The image part."""
        return self.image

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.head(torch.cat([self.image(x), self.code(z)], 1))[:, 0]
