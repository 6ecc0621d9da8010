"""Images that need no file: for tests and documentation, and behind the named sets that are drawn."""

from __future__ import annotations

import numpy as np


def blobs(n: int, shape: tuple[int, int, int] = (1, 28, 28), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Soft random ellipses: images (n, C, H, W) uint8 and labels (n,) int64.

    The label is the form: 0 round, 1 wide, 2 tall. Position, size and colour are random.
    """
    channels, height, width = shape
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    cy, cx = rng.uniform(0.35, 0.65, (2, n, 1, 1))
    long = rng.uniform(0.2, 0.32, (n, 1, 1))
    tall, wide = (labels == 2)[:, None, None], (labels == 1)[:, None, None]
    ry = np.where(wide, long / 2, long)
    rx = np.where(tall, long / 2, long)
    y = (np.arange(height)[:, None] + 0.5) / height
    x = (np.arange(width)[None, :] + 0.5) / width
    distance = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2  # 1 on the edge
    ink = 1 / (1 + np.exp(6 * (distance - 1)).clip(max=1e6))  # (n, H, W)
    colour = rng.uniform(0.5, 1.0, (n, channels, 1, 1))
    return (ink[:, None] * colour * 255).round().astype(np.uint8), labels.astype(np.int64)


def mixture(n: int, centres: np.ndarray, std: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) float64 of round Gaussians at centres (K, 2), and the component of each, (n,) int64, uniform."""
    rng = np.random.default_rng(seed)
    component = rng.integers(0, len(centres), n)
    return centres[component] + std * rng.standard_normal((n, 2)), component.astype(np.int64)


DESCRIPTORS = ("x", "y", "size", "angle")


def shapes(n: int, side: int = 28, seed: int = 0, chunk: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """White ellipses and rectangles on black, twice as long as wide: images (n, 1, side, side) uint8 and descriptors
    (n, 4) float32.

    x, y: the centre in units of the side, from the left and from the top, .33 to .67. size: the square root of the area,
    .2 to .35 sides. angle: of the long axis, from the x axis towards growing y, within +-pi/3. Which of the two forms
    it is, is random and no descriptor. Edges are soft over one pixel.
    """
    rng = np.random.default_rng(seed)
    low, high = [0.33, 0.33, 0.2, -np.pi / 3], [0.67, 0.67, 0.35, np.pi / 3]
    told = rng.uniform(low, high, (n, 4)).astype(np.float32)
    ellipse = rng.random(n) < 0.5
    pixels = np.empty((n, 1, side, side), np.uint8)
    for start in range(0, n, chunk):
        rows = slice(start, start + chunk)
        pixels[rows, 0] = _ink(told[rows], ellipse[rows], side)
    return pixels, told


def _ink(told: np.ndarray, ellipse: np.ndarray, side: int) -> np.ndarray:
    """(n, side, side) uint8: how much of each pixel the shape covers, from the distance of its centre to the edge."""
    x, y, size, angle = (told[:, i, None, None] for i in range(4))
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    dx, dy = at[None, None, :] - x, at[None, :, None] - y
    along, across = np.abs(dx * np.cos(angle) + dy * np.sin(angle)), np.abs(dy * np.cos(angle) - dx * np.sin(angle))

    long, short = size / np.sqrt(2), size / np.sqrt(8)  # half sides of the rectangle of that area
    box = np.clip((long - along) * side + 0.5, 0, 1) * np.clip((short - across) * side + 0.5, 0, 1)

    long, short = size * np.sqrt(2 / np.pi), size / np.sqrt(2 * np.pi)  # semi-axes of the ellipse of that area
    level = (along / long) ** 2 + (across / short) ** 2  # 1 on the edge
    slope = 2 * np.hypot(along / long**2, across / short**2)
    oval = np.clip((1 - level) / np.maximum(slope, 1e-3) * side + 0.5, 0, 1)
    return np.round(255 * np.where(ellipse[:, None, None], oval, box)).astype(np.uint8)
