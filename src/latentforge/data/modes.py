"""Gaussian mixtures in the plane whose points travel through the package as images of shape (2, 1, 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def is_points(shape: tuple[int, ...] | list[int]) -> bool:
    """Whether images of this shape (C, H, W) are points in the plane: (2, 1, 1)."""
    return tuple(shape) == (2, 1, 1)


@dataclass(frozen=True, eq=False)
class Modes:
    """The components of a mixture, all alike in weight and spread, and the map from units to pixels.

    A pixel is (unit + margin) / (2 margin), so the square from -margin to margin becomes [0, 1].
    """

    centres: np.ndarray  # (K, 2) float64, in units
    std: float  # of both coordinates of every component, in units
    margin: float  # units

    def __len__(self) -> int:
        return len(self.centres)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) in units -> images (N, 2, 1, 1) float32."""
        return ((points + self.margin) / (2 * self.margin)).astype(np.float32)[:, :, None, None]

    def to_units(self, images: Tensor) -> Tensor:
        """Images (N, 2, 1, 1) in [0, 1] -> points (N, 2) float64 in units, on the CPU."""
        return images.detach().cpu().double().flatten(1) * (2 * self.margin) - self.margin


def ring() -> Modes:
    """Eight components on the unit circle, std .01 (PacGAN, Lin et al. 2018, arXiv:1712.04086, section 4)."""
    angle = 2 * np.pi * np.arange(8) / 8
    return Modes(np.stack([np.cos(angle), np.sin(angle)], 1), 0.01, 1.25)


def grid() -> Modes:
    """5 x 5 components at {-4, -2, 0, 2, 4}^2, std .05 (same section)."""
    x, y = np.meshgrid(np.arange(-4.0, 5.0, 2.0), np.arange(-4.0, 5.0, 2.0), indexing="ij")
    return Modes(np.stack([x.ravel(), y.ravel()], 1), 0.05, 5.0)
