"""What classes samples show, by a classifier that knows them. Higher is better but for `class-kl`.

score: exp E KL(p(y | x) || p(y)) (Salimans et al. 2016, arXiv:1606.03498, section 4), at most the number of classes.
class-kl: KL in nats from the classes shown to those of the training images. rarest-class: the least share of a class, in
units of its share of the training images. as-asked: the share of samples that show the class they were asked for. The
classifier of digits gives the score alone of images that are none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentforge.data.dataset import Dataset
from latentforge.data.named import DIGITS
from latentforge.metrics.features import DIGIT_SETS
from latentforge.metrics.intervals import around, around_mean
from latentforge.metrics.subject import Row, Subject, short

BETTER = {"score": "higher", "class-kl": "lower", "rarest-class": "higher", "as-asked": "higher"}


def classifier_score(logits: Tensor) -> float:
    """The score of samples with these logits (N, K)."""
    p = logits.double().softmax(1)
    return float((torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0))).sum(1).mean().exp())


def class_balance(classes: Tensor, shares: Tensor) -> dict[str, float]:
    """`class-kl` and `rarest-class` of classes (N,) against the shares (K,) expected; a class that is not expected counts
    as one that is expected once."""
    expected = shares.clamp(min=1 / (len(classes) + 1))
    q = torch.bincount(classes, minlength=len(shares)).double() / len(classes)
    present = shares > 0
    return {
        "class-kl": float(torch.special.xlogy(q, q / expected).sum()),
        "rarest-class": float((q / expected)[present].min()),
    }


def shows_digits(data: Dataset) -> bool:
    """Whether the classes of a set are the digits: by their names, or that of the set where they have none."""
    return data.classes == DIGITS if data.classes else data.name in DIGIT_SETS


def rows(s: Subject) -> list[Row]:
    judge = s.classifier
    if judge is None or judge.classify is None or not s.model.can_sample or s.n < 2:
        return []
    labels = s.data.train.labelled().labels
    k = judge.classify(s.real[:1]).shape[1]
    shares = torch.full((k,), 1 / k, dtype=torch.float64)
    if s.data.num_classes == k and labels is not None:
        shares = torch.bincount(labels, minlength=k).double() / len(labels)

    def statistic(logits: Tensor) -> dict[str, float]:
        return {"score": classifier_score(logits), **class_balance(logits.argmax(1), shares)}

    logits = {which: judge.classify(getattr(s, which)) for which in ("fake", "gauss", "real")}
    found = around(statistic, (logits["fake"],), s.repeats)
    trivial, best = statistic(logits["gauss"]), statistic(logits["real"])
    ours = judge.name != "digits" or shows_digits(s.data)  # whether its classes are those of the images
    tail: dict[str, Any] = {"images": s.n, "sampler": s.sampler, "features": judge.about}
    out = [
        {"measure": f"{m}-{judge.name}-{short(s.n)}", **found[m], "better": BETTER[m], "baseline": trivial[m],
         "which": s.which, "reference": best[m], "is": "held-out images", **tail}
        for m in found if ours or m == "score"
    ]  # fmt: skip
    condition = s.model.condition
    if ours and condition is not None and condition.classes and condition.size == k == s.data.num_classes:
        asked = torch.arange(s.n) % k
        shown = judge.classify(s.model.sample(s.n, label=asked, seed=s.seed + 1).cpu()).argmax(1)
        right = around_mean((shown == asked).double())
        real_labels = s.held.labels[s.held.spread(s.n)] if s.held.labels is not None else asked
        best_right = float((logits["real"].argmax(1) == real_labels).double().mean())
        out.append({
            "measure": f"as-asked-{judge.name}-{short(s.n)}", **right, "better": "higher", "baseline": 1 / k,
            "which": "chance", "reference": best_right, "is": "held-out images", **tail,
        })  # fmt: skip
    return out
