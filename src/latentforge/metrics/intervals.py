"""How far a number measured on a sample may be off: half-sample jackknife (Shao & Wu 1989, Annals of Statistics 17).

A statistic is taken again on random halves, drawn without replacement. For a statistic that is smooth in the data the
standard deviation over halves equals that of the statistic on the whole sample: half as much data doubles the variance, and
drawing without replacement halves it; Student's t makes an interval of it. A bootstrap would draw images twice, which a
Frechet distance and all nearest-neighbour measures take for real agreement or real spread, and so be biased.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NORMAL = 1.96  # half the width of a 95 % interval in standard deviations
SEED = 0x1EAF


def interval(value: float, width: float) -> dict[str, float]:
    """A number and the ends of its interval, half of which is `width`."""
    return {"value": value, "low": value - width, "high": value + width}


def around(
    statistic: Callable[..., dict[str, float]], sets: Sequence[Tensor], repeats: int
) -> dict[str, dict[str, float]]:
    """`value`, and `low` and `high` of the 95 % interval, of each number of `statistic(*sets)`, each set halved by itself.
    No ends with fewer than two repeats, or where a set has fewer than 8 rows."""
    found = statistic(*sets)
    if repeats < 2 or min(map(len, sets)) < 8:
        return {k: {"value": v} for k, v in found.items()}
    generator = torch.Generator().manual_seed(SEED)
    drawn = [
        statistic(*(s[torch.randperm(len(s), generator=generator)[: len(s) // 2]] for s in sets))
        for _ in range(repeats)
    ]
    wide = student(repeats)
    spread = {k: wide * float(torch.tensor([d[k] for d in drawn], dtype=torch.float64).std()) for k in found}
    return {k: interval(v, spread[k]) for k, v in found.items()}


def student(n: int) -> float:
    """Half the width of the 95 % interval of a mean of n draws, in standard errors (Student's t)."""
    from scipy.stats import t

    return float(t.ppf(0.975, n - 1))


def around_mean(values: Tensor) -> dict[str, float]:
    """The mean `value` of values (N,), and `low` and `high` of its 95 % interval, from their standard deviation, or, where each
    is 0 or 1, by the score test (Wilson 1927, J. American Statistical Association 22), which stays in [0, 1]; no ends for one
    value."""
    mean, n = float(values.double().mean()), len(values)
    if n < 2:
        return {"value": mean}
    if bool(((values == 0) | (values == 1)).all()):
        more = NORMAL**2 / n
        centre = (mean + more / 2) / (1 + more)
        width = (more * (mean * (1 - mean) + more / 4)) ** 0.5 / (1 + more)
        return {"value": mean, "low": max(0.0, centre - width), "high": min(1.0, centre + width)}
    return interval(mean, NORMAL * float(values.double().std()) / n**0.5)


def mean_and_interval(values: Tensor) -> tuple[float, float, float]:
    """Mean and 95 % interval of values (R, N) of R repeats on the same N images, both taken for samples: the variance of
    the mean is that over repeats plus that over images, Student's t with R - 1 degrees of freedom for its width (normal
    for one repeat, whose interval is over images alone)."""
    n = values.shape[1]
    variance = float(values.mean(0).var()) / n if n > 1 else 0.0
    return over_repeats(float(values.mean()), variance, values.mean(1))


def over_repeats(mean: float, variance: float, means: Tensor) -> tuple[float, float, float]:
    """A mean with its interval, from its variance over images and the means (R,) of the repeats."""
    r = len(means)
    variance += float(means.var()) / r if r > 1 else 0.0
    width = (student(r) if r > 1 else NORMAL) * variance**0.5
    return mean, mean - width, mean + width
