"""The training images whose codes lie nearest to an image's code."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from latentforge.errors import InputError


def neighbours(codes: Tensor, among: Tensor, k: int, own: bool = False) -> tuple[Tensor, Tensor]:
    """Rows (N, k) int64 of the codes `among` (M, Z) nearest to each of `codes` (N, Z) in Euclidean distance, the nearest
    first, and their distances (N, k). `own`: row i of both is the same image, which is then not its own neighbour.
    InputError where `among` has not as many as k."""
    most = len(among) - own
    if not 1 <= k <= most:
        raise InputError(f"{k} neighbours are not to be had among {len(among)} images; ask for 1 to {max(most, 1)}.")
    search = NearestNeighbors(n_neighbors=k + own).fit(among.numpy())
    distance, index = search.kneighbors(codes.numpy())
    if own:
        other = index != np.arange(len(codes))[:, None]
        other[other.all(1), -1] = False  # twins crowd it out, or it is not among them: leave out the farthest
        index, distance = (a[other].reshape(len(codes), k) for a in (index, distance))
    return torch.from_numpy(index.astype(np.int64)), torch.from_numpy(distance)
