"""The endless stream of training batches: a new permutation every epoch, the last batch of one running into the next.

The order depends on (seed, images drawn) alone, so a run's data position is one number.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from latentforge.clock import mix
from latentforge.data.batch import Batch, Images


@lru_cache(maxsize=4)
def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """(n,) order of the images in this epoch."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix(seed, epoch, 0xDA7A)))


class Stream:
    """`next(stream)` is this part's share of the next global batch of `batch_size` images."""

    def __init__(self, images: Images, batch_size: int, seed: int = 0, part: int = 0, parts: int = 1):
        self.images, self.batch_size, self.seed = images, batch_size, seed
        share = batch_size // parts
        self.slice = slice(part * share, (part + 1) * share)
        self.drawn = 0  # images drawn so far, all parts

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Batch:
        n, wanted, at = len(self.images), self.batch_size, self.drawn
        pieces = []
        while wanted:
            epoch, start = divmod(at, n)
            piece = permutation(n, self.seed, epoch)[start : start + wanted]
            pieces.append(piece)
            wanted -= len(piece)
            at += len(piece)
        self.drawn = at
        return self.images[torch.cat(pieces)[self.slice]]
