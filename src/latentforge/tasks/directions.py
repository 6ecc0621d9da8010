"""Directions of code space, and walks along them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.tasks.edit import decoded


@dataclass(frozen=True)
class Directions:
    """K directions in code space, and how codes lie along them."""

    axes: Tensor  # (K, Z), unit length
    mean: Tensor  # (Z,) of the codes
    stddev: Tensor  # (K,) of the codes along each
    share: Tensor  # (K,) of the codes' variance


def principal_directions(codes: Tensor, k: int) -> Directions:
    """The k orthogonal directions along which codes (N, Z) differ most, the greatest first. InputError where there are not
    as many."""
    most = min(len(codes) - 1, codes.shape[1])
    if not 1 <= k <= most:
        raise InputError(f"{k} principal directions are not to be had: {len(codes)} codes of size {codes.shape[1]} "
                         f"have 1 to {most}.")  # fmt: skip
    pca = PCA(k, svd_solver="full").fit(codes.double().numpy())
    axes, variance, share = (
        torch.from_numpy(a).to(codes.dtype)
        for a in (pca.components_, pca.explained_variance_, pca.explained_variance_ratio_)
    )
    return Directions(axes, codes.mean(0), variance.sqrt(), share)


def single_dimensions(codes: Tensor, which: tuple[int, ...]) -> Directions:
    """Single numbers of the code, as directions."""
    z = codes.shape[1]
    if not which:
        raise InputError(f"no dimension is named; the code has 0 to {z - 1}.")
    for j in which:
        if not 0 <= j < z:
            raise InputError(f"there is no dimension {j}; the code has 0 to {z - 1}.")
    index = torch.tensor(which)
    variance = codes.var(0)
    share = variance[index] / variance.sum().clamp(min=1e-30)
    return Directions(torch.eye(z)[index], codes.mean(0), variance[index].sqrt(), share)


def traverse(model: Game, codes: Tensor, directions: Directions, strengths: Tensor, y: Tensor | None = None) -> Tensor:
    """Images (N, K, S, C, H, W) in [0, 1], on the CPU: each code (N, Z) with its coordinate along each of K directions set
    to the codes' mean plus each of S `strengths` standard deviations, all else as it was. `y` (N, ...) is what a
    conditional model is told of each. InputError where that does not fit, or the model has no decoder."""
    d = directions
    along = (codes - d.mean) @ d.axes.T  # (N, K)
    step = strengths[None, None] * d.stddev[None, :, None] - along[:, :, None]  # (N, K, S)
    return decoded(model, codes[:, None, None] + step[..., None] * d.axes[:, None], y)
