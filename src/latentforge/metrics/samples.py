"""Samples against held-out images: distances, and how much of each lies among the other, in every chosen feature space.
Beside each number what a Gaussian per class in PCA-50 scores, which needs no learning of ours, and what as many training
images score, which no model can be expected to beat.

Where the held-out images are fewer than 1,000 each number is the mean over up to 32 sets of as many samples (`Subject.sets`):
against 140 images of one data set the Frechet distance of a single set of one and the same model varied by a third (one
standard deviation), its coverage by .03 (docs/decisions.md, 97)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from latentforge.metrics.coverage import neighbourhoods
from latentforge.metrics.distance import frechet_distance, kernel_distance
from latentforge.metrics.intervals import around
from latentforge.metrics.subject import FEW, Row, Subject, short

BETTER = {
    "frechet": "lower", "kernel": "lower", "precision": "higher", "recall": "higher", "density": "higher",
    "coverage": "higher",
}  # fmt: skip


def distances(real: Tensor, fake: Tensor) -> dict[str, float]:
    """`frechet` and `kernel`, lower is better, of features (N, F) and (M, F)."""
    return {"frechet": frechet_distance(real, fake), "kernel": kernel_distance(real, fake)}


def mean_over_sets(statistic: Callable[..., dict[str, float]], real: Tensor, *sets: Tensor) -> dict[str, float]:
    """The mean of each number of `statistic(real, one)` over sets of features (M, F)."""
    found = [statistic(real, one) for one in sets]
    return {k: sum(f[k] for f in found) / len(found) for k in found[0]}


def rows(s: Subject) -> list[Row]:
    if s.n < 2 or not s.model.can_sample:  # one image has no spread to compare
        return []
    note = f"{s.n} images are few: frechet is biased upwards" if s.n < FEW else ""
    if s.sets > 1:
        note += f"; all these are means over {s.sets} sets of {s.n} samples"
    out = []
    for e in s.extractors:
        real, fake, gauss, floor = (s.of(which, e) for which in ("real", "fake", "gauss", "floor"))
        for of_one in (distances, neighbourhoods):
            statistic = partial(mean_over_sets, of_one)
            found = around(statistic, (*real, *fake), s.repeats)
            trivial, best = statistic(*real, *gauss), statistic(*real, *floor)
            out += [
                {"measure": f"{m}-{e.name}-{short(s.n)}", **found[m], "better": BETTER[m], "baseline": trivial[m],
                 "which": s.which, "reference": best[m], "is": "training images", "images": s.n,
                 "sampler": s.sampler, "features": e.about, **({"sets": s.sets} if s.sets > 1 else {}),
                 **({"note": note} if note and m == "frechet" else {})}
                for m in found
            ]  # fmt: skip
    return out
