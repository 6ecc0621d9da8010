"""Samples against held-out images: distances, and how much of each lies among the other, in every chosen feature space.
Beside each number what a Gaussian per class in PCA-50 scores, which needs no learning of ours, and what as many training
images score, which no model can be expected to beat."""

from __future__ import annotations

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


def rows(s: Subject) -> list[Row]:
    if s.n < 2 or not s.model.can_sample:  # one image has no spread to compare
        return []
    out = []
    for e in s.extractors:
        real, fake, gauss, floor = (s.of(which, e) for which in ("real", "fake", "gauss", "floor"))
        for statistic in (distances, neighbourhoods):
            found = around(statistic, (real, fake), s.repeats)
            trivial, best = statistic(real, gauss), statistic(real, floor)
            out += [
                {"measure": f"{m}-{e.name}-{short(s.n)}", **found[m], "better": BETTER[m], "baseline": trivial[m],
                 "which": s.which, "reference": best[m], "is": "training images", "images": s.n,
                 "sampler": s.sampler, "features": e.about,
                 **({"note": f"{s.n} images are few: {m} is biased upwards"} if s.n < FEW and m == "frechet" else {})}
                for m in found
            ]  # fmt: skip
    return out
