"""DiffAugment: the same random, differentiable changes for all images the critic sees, real and generated, so that it
cannot learn few training images by heart (Zhao et al. 2020, arXiv:2006.10738). Images in [-1, 1].

Departure: a shifted image is continued by the colour of its edge instead of by zeros."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latentforge.clock import Clock

Augment = Literal["none", "auto", "color", "translation", "cutout", "color-translation", "translation-cutout", "all"]

FEW = 2_500  # training images, below which `auto` is translation-cutout and from which on it is none


def augment(x: Tensor, policy: Augment, t: Clock) -> Tensor:
    """(B, C, H, W) to the same, each image with its own draw from the round's clock."""
    if policy in ("color", "color-translation", "all"):
        x = color(x, t)
    if policy in ("translation", "color-translation", "translation-cutout", "all"):
        x = translation(x, t)
    return cutout(x, t) if policy in ("cutout", "translation-cutout", "all") else x


def color(x: Tensor, t: Clock) -> Tensor:
    """Brightness by up to +-.5, saturation by a factor in [0, 2], contrast by one in [.5, 1.5]."""
    bright, saturate, contrast = t.rand(len(x), 3)[:, :, None, None, None].unbind(1)
    x = x + bright - 0.5
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * 2 * saturate
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def translation(x: Tensor, t: Clock, share: float = 0.125) -> Tensor:
    """Shifted by up to an eighth of each side; what is uncovered takes the colour of the nearest edge."""
    n, _, h, w = x.shape
    reach = torch.tensor([round(h * share), round(w * share)], device=x.device)
    shift = (t.rand(n, 2) * (2 * reach + 1)).long() - reach  # (B, 2), whole pixels
    rows = (torch.arange(h, device=x.device) - shift[:, :1]).clamp(0, h - 1)
    columns = (torch.arange(w, device=x.device) - shift[:, 1:]).clamp(0, w - 1)
    index = torch.arange(n, device=x.device)[:, None, None]
    return x.movedim(1, 3)[index, rows[:, :, None], columns[:, None]].movedim(3, 1)


def cutout(x: Tensor, t: Clock) -> Tensor:
    """A rectangle of half each side, anywhere, set to mid-grey (0 of the networks' range)."""
    n, _, h, w = x.shape
    centre = t.rand(n, 2) * torch.tensor([h, w], device=x.device)
    row = (torch.arange(h, device=x.device) + 0.5 - centre[:, :1]).abs() < h / 4
    column = (torch.arange(w, device=x.device) + 0.5 - centre[:, 1:]).abs() < w / 4
    return x * ~(row[:, None, :, None] & column[:, None, None])
