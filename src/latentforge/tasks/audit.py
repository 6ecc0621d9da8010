"""Whether synthetic images help a classifier: the same network, with the same number of steps, trained on real images, on
synthetic ones and on both, each with and without the usual turning, scaling and shifting, and tested on real images.

It is fair only where the generator was trained on the very images called real here, and on no others: a generator that
has seen more labels brings them along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from latentforge.clock import mix
from latentforge.data.batch import Batch, Images, at_once
from latentforge.data.dataset import Dataset
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.metrics.intervals import NORMAL, student
from latentforge.metrics.network import SMALLEST, FeatureNet, jitter, train_classifier
from latentforge.tasks.augment import LabelledSampler, asked_labels, need_classes_of, shares_of

EXAMPLES = 64_000  # drawn in each training of the classifier
SYNTHETIC = 10_000  # images, or as many as there are real ones where those are more
LEAST = 256  # images of an epoch, so that each fills its batches
REAL, BOTH = "real", "real and synthetic"
JITTERED = ", jittered"


class Mixed(Images):
    """Several sets as one, as many images of each, each gone through again and again to `length` images in all: however
    small a set is, batches are as large and epochs as long as those of others."""

    def __init__(self, *sets: Images, length: int):
        super().__init__(sets[0].pixels, sets[0].labels)
        self.sets, self.length = sets, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Tensor) -> Batch:
        k = len(self.sets)
        parts = [s[index[index % k == i] // k % len(s)] for i, s in enumerate(self.sets)]
        labels = [p.label for p in parts if p.label is not None]
        return Batch(torch.cat([p.image for p in parts]), torch.cat(labels), index)


def audit(
    model: Game, data: Dataset, *, split: str = "test", repeats: int = 5, synthetic: int | None = None,
    examples: int = EXAMPLES, seed: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each training set: `accuracy` on the images of `split`, and its `difference` from that of real images
    treated the same way, each with its 95 % interval over `repeats` seeds of classifier and samples and over the images.

    data.train are the real images, those the model was trained on. synthetic: samples per repeat, classes as frequent as
    in training; default: 10,000, or as many as there are real ones. examples: images each classifier draws, in steps of
    as many for all; of "real and synthetic", every other one is real. InputError where the data has no classes or images
    are too small, or where the model cannot draw classes."""
    held = data.split(split).labelled()
    if data.num_classes < 2 or held.labels is None:
        raise InputError(f"{data.source} has no classes for a classifier to learn; the audit needs two or more.")
    if min(data.image_shape[1:]) < SMALLEST:
        raise InputError(f"the audit's classifier needs images of at least {SMALLEST}x{SMALLEST}.")
    sampler = LabelledSampler(model, data)
    need_classes_of(data, model, sampler.classes)
    known = data.train.labelled()
    real = Images(known.pixels, known.labels)
    m = synthetic or max(SYNTHETIC, len(real))
    found: dict[str, list[Tensor]] = {}
    for repeat in range(repeats):
        s = mix(seed, repeat)
        labels = asked_labels(m, sampler.classes, None, shares_of(model, data), s)
        pixels = torch.cat([torch.from_numpy(p) for p in sampler.drawn(labels, s)]).permute(0, 3, 1, 2)
        fake = Images(pixels, labels)
        n = max(len(real), m, LEAST)
        sets = {REAL: Mixed(real, length=n), "synthetic": Mixed(fake, length=n), BOTH: Mixed(real, fake, length=2 * n)}
        for end, change in (("", same), (JITTERED, jitter)):
            for name, images in sets.items():
                right = correct(images, data.num_classes, held, examples, s, change)
                found.setdefault(name + end, []).append(right)
    rows = []
    for name, values in found.items():
        base = found[REAL + (JITTERED if name.endswith(JITTERED) else "")]
        value, low, high = mean_and_interval(torch.stack(values))
        row: dict[str, Any] = {"trained on": name, "accuracy": value, "low": low, "high": high}
        if base is not values:
            d, d_low, d_high = mean_and_interval(torch.stack(values) - torch.stack(base))
            row |= {"difference": d, "difference low": d_low, "difference high": d_high}
        else:
            row |= dict.fromkeys(("difference", "difference low", "difference high"))
        rows.append(row | {"real": len(real), "synthetic": m, "repeats": repeats, "images": len(held)})
    return rows


def same(x: Tensor) -> Tensor:
    return x


def correct(
    train: Images, classes: int, held: Images, examples: int, seed: int, change: Callable[[Tensor], Tensor]
) -> Tensor:
    """(N,) float64, 1 where a classifier trained on `train` is right about a held-out image."""
    net: FeatureNet = train_classifier(train, classes, examples, seed & 0x7FFFFFFF, change=change)
    parts = [(net.over(b.image.cpu(), head=True).argmax(1), b.label) for b in held.batches(at_once(held.shape, 1000))]
    return torch.cat([(k == y.cpu()).double() for k, y in parts if y is not None])


def mean_and_interval(values: Tensor) -> tuple[float, float, float]:
    """Mean and 95 % interval of values (R, N) of R repeats on the same N images, both taken for samples: the variance of
    the mean is that over repeats plus that over images, Student's t with R - 1 degrees of freedom for its width (normal
    for one repeat, whose interval is over images alone)."""
    r, n = values.shape
    mean = float(values.mean())
    variance = float(values.mean(0).var()) / n if n > 1 else 0.0
    variance += float(values.mean(1).var()) / r if r > 1 else 0.0
    width = (student(r) if r > 1 else NORMAL) * variance**0.5
    return mean, mean - width, mean + width


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """In plain words, whether synthetic images helped, without and with jitter."""
    by = {r["trained on"]: r for r in rows}
    out = []
    for end, where in (("", "without other augmentation"), (JITTERED, "beside turned, scaled and shifted images")):
        real, both = by[REAL + end], by[BOTH + end]
        low, high = both["difference low"], both["difference high"]
        what = "helped" if low > 0 else "hurt" if high < 0 else "made no difference that this audit can show"
        out.append(
            f"synthetic images {what} {where}: {real['accuracy']:.2%} on {real['real']:,} real images, {both['accuracy']:.2%} "
            f"with {both['synthetic']:,} synthetic ones (difference {100 * both['difference']:+.2f} points, "
            f"95 % interval {100 * low:+.2f} to {100 * high:+.2f})"
        )
    return out
