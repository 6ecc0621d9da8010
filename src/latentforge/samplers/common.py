"""What the samplers share: one thread, and a scale for every dimension."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from latentforge.errors import InputError


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, in full precision: its sums, and so the codes drawn, depend on how many threads there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_num_threads(before)


def location_and_scale(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (Z,) of codes (N, Z) in float64. The deviation is at least a thousandth of the mean
    and of the widest dimension's deviation: a collapsed dimension, constant or nearly so, gets a narrow density that
    float32 can still hold, and no division by zero."""
    mean, deviation = codes.double().mean(0), codes.double().std(0, correction=0)
    return mean, deviation.clamp_min(1e-6).maximum(1e-3 * (mean.abs() + deviation.max()))


def check_labels(labels: Tensor | None, n: int, classes: int) -> Tensor:
    """The n labels, on the CPU; zeros where there are no classes. InputError where they are missing, not n, or outside
    0..classes-1."""
    if not classes:
        return torch.zeros(n, dtype=torch.long)
    if labels is None:
        raise InputError(f"this sampler has one density per class: give labels, {n} of 0 to {classes - 1}.")
    labels = labels.cpu()
    if labels.shape != (n,) or (n and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        raise InputError(f"labels must be {n} numbers from 0 to {classes - 1}, the classes the sampler was fitted on.")
    return labels
