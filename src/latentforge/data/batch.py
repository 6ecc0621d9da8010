"""What a model sees of the data: one batch, and one split of a set."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from latentforge.data import room
from latentforge.errors import InputError

NUMBERS = 2**25  # of the images that are looked at at once where nothing is learned


def at_once(shape: tuple[int, int, int], most: int) -> int:
    """How many images of a shape (C, H, W) to look at at once: `most`, or fewer where they are large, so that what a network
    makes of them does not outgrow memory."""
    return max(1, min(most, NUMBERS // math.prod(shape)))


def free_on(device: torch.device) -> float:
    """Bytes of memory that are free on a GPU; infinite elsewhere."""
    if device.type == "cuda":  # what torch keeps of earlier use is free too, though not to the driver
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":  # the processor's memory, of which Metal advises a share
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return math.inf


def in_parts(x: Tensor, y: Tensor | None, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Images or codes (N, ...), and what belongs to each of them (N, ...) where there is that, `size` at once.
    InputError where there are not as many."""
    if y is not None and len(y) != len(x):
        raise InputError(f"{len(y)} labels for {len(x)} images or codes; give one for each.")
    return zip(x.split(size), repeat(None) if y is None else y.split(size), strict=False)


def is_pixels(images: Tensor) -> bool:
    """Whether a tensor holds bytes, or floats in [0, 1] but for rounding."""
    if images.dtype == torch.uint8 or not images.numel():
        return True
    return images.is_floating_point() and bool((images.min() >= -1e-3) & (images.max() <= 1 + 1e-3))


def gathered(pieces: Iterable[Tensor], n: int, like: Tensor) -> Tensor:
    """The n images of all pieces, which are of the kind of `like` (N, C, H, W): in memory, or in a file where they would take
    more than half of what is free."""
    shape = (n, *like.shape[1:])
    large = like.device.type == "cpu" and 2 * n * like[:1].nbytes > room.available_memory()
    out = torch.from_numpy(room.mapped(shape, like.numpy().dtype)) if large else like.new_empty(shape)
    at = 0
    for piece in pieces:
        out[at : at + len(piece)] = piece
        at += len(piece)
    return out


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples on one device."""

    image: Tensor  # (B, C, H, W) float32 in [0, 1]
    label: Tensor | None  # (B,) int64 class or (B, D) float32 descriptors, None where the set has no labels
    index: Tensor  # (B,) int64 row in the split

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.image.to(device), None if self.label is None else self.label.to(device), self.index)


class Images:
    """One split: `pixels` (N, C, H, W), uint8 or float32 in [0, 1], and `labels`, which are None, classes (N,) int64 or
    descriptors (N, D) float32. Batches go to `device`, which is the pixels' own but where they would fill it."""

    def __init__(self, pixels: Tensor, labels: Tensor | None = None, device: torch.device | None = None):
        self.pixels = pixels
        self.labels = labels
        self.device = device or pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def __deepcopy__(self, memo: dict) -> Images:
        return self  # nothing writes to it, and it may be most of the memory there is

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self.pixels.shape[1:]
        return c, h, w

    def to(self, device: torch.device | str) -> Images:
        """The same with batches on `device`; the pixels go there too unless they would take half of what is free there."""
        device, out = torch.device(device), copy.copy(self)  # of a class derived from this one too
        if self.pixels.nbytes > free_on(device) / 2:
            out.device = device
            return out
        out.pixels = self.pixels.to(device)
        out.labels = None if self.labels is None else self.labels.to(device)
        out.device = out.pixels.device
        return out

    def __getitem__(self, index: Any) -> Batch:
        """The examples at `index`, as float32 in [0, 1]: (B,) int64, or what else numbers rows, such as 3 or [:16]."""
        if not isinstance(index, Tensor):
            index = torch.arange(len(self))[index].reshape(-1)
        index = index.to(self.pixels.device)
        image = self.pixels[index].to(self.device)
        image = image.float().div_(255) if image.dtype == torch.uint8 else image.float()
        labels = None if self.labels is None else self.labels[index].to(self.device)
        return Batch(image, labels, index.to(self.device))

    def select(self, rows: Tensor) -> Images:
        """The images of these rows, (K,) indices or (N,) bool, as a split of their own."""
        index = (torch.nonzero(rows)[:, 0] if rows.dtype == torch.bool else rows).to(self.pixels.device)
        pixels = gathered((self.pixels[i] for i in index.split(512)), len(index), self.pixels)
        return Images(pixels, None if self.labels is None else self.labels[rows], self.device)

    def labelled(self) -> Images:
        """Those whose class is known; themselves where all are, or where labels are no classes."""
        if self.labels is None or self.labels.is_floating_point() or not (self.labels < 0).any():
            return self
        return self.select(self.labels >= 0)

    def spread(self, k: int) -> Tensor:
        """Indices of at most k images spread evenly over the split, which may be sorted by class."""
        n = len(self)
        return torch.arange(n) if k >= n else torch.linspace(0, n - 1, k).long()

    def batches(self, size: int | None = None, rows: Tensor | None = None) -> Iterator[Batch]:
        """Every example once, in order, or those at `rows` (K,), `size` at once: by default at most 512, fewer where images are
        large. The last batch may be short."""
        for index in (torch.arange(len(self)) if rows is None else rows).split(size or at_once(self.shape, 512)):
            yield self[index]


def hold_out(images: Images, seed: int) -> tuple[Images, Images]:
    """A random tenth of the images, at least one of them, apart from the rest: (rest, held)."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    cut = max(1, round(0.1 * len(images)))
    return images.select(order[cut:].sort().values), images.select(order[:cut].sort().values)


def joined(parts: list[Images]) -> Images:
    """Several splits, one after the other; with labels where all have them."""
    if len(parts) == 1:
        return parts[0]
    pieces = (piece for part in parts for piece in part.pixels.split(512))
    labels = [part.labels for part in parts if part.labels is not None]
    pixels = gathered(pieces, sum(map(len, parts)), parts[0].pixels)
    return Images(pixels, torch.cat(labels) if len(labels) == len(parts) else None)
