"""The noise a generator starts from."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from latentforge.clock import Clock

Noise = Literal["uniform", "normal"]


def draw_noise(kind: Noise, source: Clock | torch.Generator, n: int, size: int) -> Tensor:
    """(n, size) numbers, uniform in [-1, 1] or standard normal, from the round's clock or a generator."""
    if isinstance(source, Clock):
        return source.rand(n, size) * 2 - 1 if kind == "uniform" else source.randn(n, size)
    if kind == "uniform":
        return torch.rand(n, size, generator=source) * 2 - 1
    return torch.randn(n, size, generator=source)


def uniform_log_density(z: Tensor) -> Tensor:
    """log p(z), (N,) nats, of (N, Z) numbers under the uniform density on [-1, 1]."""
    return torch.where(z.abs().amax(1) <= 1, -z.shape[1] * math.log(2), -torch.inf)
