"""How far a vector lies from the others of its kind: its squared distance from the plane through its nearest neighbours.

Vincent & Bengio, "K-Local Hyperplane and Convex Distance Nearest Neighbor Algorithms", NIPS 2001, equations 3 to 5: the
nearest neighbours span an affine plane, which the data are taken to follow between them. The point of the plane that
stands for x is sum_i w_i n_i with sum_i w_i = 1, the weights those of Roweis & Saul, "Nonlinear dimensionality reduction
by locally linear embedding", Science 2000, with the ridge that keeps the plane from being left far behind.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 20
RIDGE = 0.1  # of the neighbours' mean squared distance
NUMBERS = 2**27  # of the reference vectors kept, 0.5 GiB
CHUNK = 2**24  # numbers of neighbours at a time
SAME = 1e-9  # of the mean squared distance from the mean: a vector this near is the same one


class Planes:
    """Reference vectors (N, D), N >= 2, of which at most `limit` are kept, spread over them."""

    def __init__(self, vectors: Tensor, neighbours: int = NEIGHBOURS, ridge: float = RIDGE, limit: int = 20_000):
        limit = max(2, min(limit, NUMBERS // vectors.shape[1]))
        n = len(vectors)
        self.vectors = vectors if n <= limit else vectors[torch.linspace(0, n - 1, limit).long()]
        self.mean = self.vectors.mean(0)
        self.vectors = self.vectors - self.mean
        self.spread = self.vectors.square().sum(1).mean()
        self.neighbours, self.ridge = min(neighbours, len(self.vectors) - 1), ridge

    def __call__(self, vectors: Tensor) -> Tensor:
        """Squared distance (M,) of vectors (M, D) from their local planes. A reference vector is no neighbour of its own,
        so that those the planes are made of are judged as others are."""
        k, out = self.neighbours, []
        for x in vectors.split(max(1, CHUNK // (vectors.shape[1] * (k + 1)))):
            x = x - self.mean
            nearest = torch.cdist(x, self.vectors).topk(k + 1, largest=False).indices
            offsets = self.vectors[nearest] - x[:, None]  # (m, k + 1, D)
            own = offsets[:, :1].square().sum(2, keepdim=True) <= SAME * self.spread
            offsets = torch.where(own, offsets[:, 1:], offsets[:, :-1])
            out.append(from_plane(offsets, self.ridge))
        return torch.cat(out) if out else vectors.new_zeros(0)


def from_plane(offsets: Tensor, ridge: float) -> Tensor:
    """min over w with sum w = 1 of ||sum_i w_i d_i||^2 + ridge mean_i ||d_i||^2 ||w||^2, the first term of it (m,), for the
    neighbours' offsets d (m, k, D) from the vector."""
    gram = offsets @ offsets.mT
    scale = ridge * gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    gram = gram + scale[:, None, None] * torch.eye(gram.shape[1], device=gram.device)
    place = "cpu" if gram.device.type == "mps" else gram.device  # older torch has no solver for Apple's
    weights = torch.linalg.solve(gram.to(place), torch.ones_like(gram[:, :, :1]).to(place)).to(gram.device)
    weights = weights / weights.sum(1, keepdim=True)
    return (weights * offsets).sum(1).square().sum(1)
