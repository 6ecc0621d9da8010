"""What the images of the set `shapes` show, measured from their moments: a way to ask whether a model put the object
where it was told to."""

from __future__ import annotations

import torch
from torch import Tensor

MEASURED = ("x", "y", "size", "angle")


def measure_shapes(images: Tensor) -> Tensor:
    """(N, 4) float64 x, y, size and angle of bright shapes on black in images (N, 1, H, W) in [0, 1].

    x, y: the centroid of the brightness in units of the image sides, from the left and from the top. size: the square
    root of the total brightness in units of the image's, so a grey shape measures smaller than a white one. angle: of
    the longer principal axis, in (-pi/2, pi/2], from the x axis towards growing y. A black image has no centroid and
    measures nan, 0 in size.
    """
    ink = images.detach().cpu().double()[:, 0]  # (N, H, W)
    _, height, width = ink.shape
    y = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None]
    x = (torch.arange(width, dtype=torch.float64) + 0.5)[None, :]

    def mean(values: Tensor) -> Tensor:
        return (ink * values).sum((1, 2)) / total

    total = ink.sum((1, 2))
    cx, cy = mean(x), mean(y)
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    angle = 0.5 * torch.atan2(2 * mean(dx * dy), mean(dx * dx) - mean(dy * dy))
    return torch.stack([cx / width, cy / height, (total / (height * width)).sqrt(), angle], 1)
