"""Images that need no file, for tests and documentation."""

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
