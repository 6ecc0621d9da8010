"""Images to pictures: grids and single PNG files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn import functional

from latentforge.data.decode import KINDS
from latentforge.data.modes import is_points
from latentforge.errors import InputError
from latentforge.files import atomic


def to_uint8(images: Tensor) -> np.ndarray:
    """(N, C, H, W) in [0, 1] -> (N, H, W, C) uint8."""
    return images.detach().float().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def to_numbers(images: Tensor) -> np.ndarray:
    """(..., C, H, W) in [0, 1] -> (..., H, W, C) uint8, or float32 where images are points."""
    flat = images.flatten(0, -4)
    values = flat.permute(0, 2, 3, 1).cpu().numpy() if is_points(tuple(images.shape[-3:])) else to_uint8(flat)
    return values.reshape(*images.shape[:-3], *values.shape[1:])


def picture(array: np.ndarray) -> Image.Image:
    """(H, W, C) uint8 -> a PIL image."""
    if array.shape[2] not in KINDS:
        raise InputError(f"an image of {array.shape[2]} channels cannot be drawn; save the samples as .npz.")
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array, KINDS[array.shape[2]])


def grid(images: Tensor, columns: int | None = None, least: int = 0, most: int | None = None) -> Image.Image:
    """One picture of N images (N, C, H, W) in [0, 1], row by row with a thin gap; enlarged by a whole factor to at
    least `least` pixels of width, or each image made smaller, so that all have about `most` pixels together."""
    if most is not None and (many := images.shape[0] * images.shape[2] * images.shape[3]) > most:
        sides = [max(1, int(side * (most / many) ** 0.5)) for side in images.shape[2:]]
        images = images.cpu()  # Apple's GPU makes them smaller by whole factors alone
        images = functional.interpolate(images.float(), sides, mode="area")
    array = to_uint8(images)
    n, h, w, c = array.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (h + 2) + 2, columns * (w + 2) + 2, c), 128, np.uint8)
    for i in range(n):
        y, x = 2 + (i // columns) * (h + 2), 2 + (i % columns) * (w + 2)
        sheet[y : y + h, x : x + w] = array[i]
    out = picture(sheet)
    scale = max(1, math.ceil(least / out.width))
    return out.resize((out.width * scale, out.height * scale), Image.Resampling.NEAREST)


def save(image: Image.Image, path: str | Path) -> None:
    """Write a PNG at once or not at all."""
    with atomic(path) as part:
        image.save(part, format="PNG")
