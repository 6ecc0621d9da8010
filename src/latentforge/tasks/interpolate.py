"""Walks between codes."""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.errors import InputError
from latentforge.game import Game


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation between codes (N, Z) at shares (S,): (N, S, Z). The norm stays that of a Gaussian's typical
    set (White 2016, arXiv:1609.04468); nearly parallel codes are joined by a line."""
    s = share[None, :, None]
    cosine = torch.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None, None]
    angle = torch.acos(cosine)
    line = a[:, None] * (1 - s) + b[:, None] * s
    arc = (torch.sin((1 - s) * angle) * a[:, None] + torch.sin(s * angle) * b[:, None]) / torch.sin(angle).clamp(
        min=1e-6
    )
    return torch.where(angle.sin().abs() < 1e-3, line, arc)


def interpolate(
    model: Game, start: Tensor, end: Tensor, steps: int = 8, path: str = "line", y: Tensor | None = None
) -> Tensor:
    """Decode `steps` codes from each start (N, Z) to its end (N, Z), both included: (N, steps, C, H, W) in [0, 1].
    `path` is 'line' or 'sphere'; `y` (N, ...) is what a conditional model is told of each walk. InputError for
    another path, for `y` that does not fit, and where the model has no decoder."""
    if path not in ("line", "sphere"):
        raise InputError(f"path '{path}' is not known; choose line or sphere.")
    share = torch.linspace(0, 1, steps, device=start.device)
    if path == "sphere":
        codes = slerp(start, end, share)
    else:
        codes = start[:, None] + share[None, :, None] * (end - start)[:, None]
    images = model.decode(codes.flatten(0, 1), None if y is None else y.repeat_interleave(steps, 0))
    return images.unflatten(0, (len(start), steps))
