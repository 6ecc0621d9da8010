"""Whether synthetic images help a classifier: the same network, with the same number of steps, trained on real images, on
synthetic ones and on both, each with and without the usual turning, scaling and shifting, and tested on real images.

It is fair only where the generator was trained on the very images called real here, and on no others: a generator that
has seen more labels brings them along."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentforge.clock import mix
from latentforge.data.batch import Batch, Images
from latentforge.data.dataset import open_data
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.metrics.intervals import mean_and_interval, over_repeats
from latentforge.metrics.network import SMALLEST, correct, jitter, train_classifier
from latentforge.tasks.augment import LabelledSampler, drawn_labels, left_out, need_classes_of
from latentforge.tasks.encode import need_shape

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
    model: Game, data: Any, *, split: str = "test", repeats: int = 5, synthetic: int | None = None,
    examples: int = EXAMPLES, seed: int = 0, even: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each training set: `accuracy` on the images of `split`, and its `difference` from that of real images
    treated the same way, each with its 95 % interval over `repeats` seeds of classifier and samples and over the images.
    `balanced accuracy`, the mean over the classes of the share of each that is recognised, has the same beside it: where some
    classes are rare, accuracy is that of the others.

    data: a `Dataset`, or what `open_data` makes one of; its training images, those the model was trained on, are the
    real ones. synthetic: samples per repeat, classes as frequent as in training, or all alike where they are to be
    `even`; default: 10,000, or as many as there are real ones. examples: images each classifier draws, in steps of as
    many for all; of "real and synthetic", every other one is real. Rows also say how many training images without a
    label the model has seen and the classifiers have not (`unlabelled`), which classes have too few to be drawn (`left
    out`), and how many classes the images of `split` show, with `fewest` images of one. InputError where the data has
    no classes, its images are too small or do not fit the model, or where the model cannot draw classes, or one of
    those that are to be even."""
    data = open_data(data)
    need_shape(model, data.image_shape, data.source)
    held = data.split(split).labelled().to("cpu")
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
        labels = drawn_labels(sampler, data, m, None, even, s)
        pixels = torch.cat([torch.from_numpy(p) for p in sampler.drawn(labels, s)]).permute(0, 3, 1, 2)
        fake = Images(pixels, labels)
        n = max(len(real), m, LEAST)
        sets = {REAL: Mixed(real, length=n), "synthetic": Mixed(fake, length=n), BOTH: Mixed(real, fake, length=2 * n)}
        for end, change in (("", same), (JITTERED, jitter)):
            for name, images in sets.items():
                net = train_classifier(images, data.num_classes, examples, s & 0x7FFFFFFF, change=change)
                found.setdefault(name + end, []).append(correct(net, held))
    counts = held.labels.unique(return_counts=True)[1]
    about = {
        "real": len(real), "synthetic": m, "repeats": repeats, "images": len(held), "classes": len(counts),
        "fewest": int(counts.min()), "unlabelled": len(data.train) - len(known),
        "left out": [] if even else left_out(sampler, data),
    }  # fmt: skip
    kinds: dict[str, Callable[[Tensor], tuple[float, float, float]]]
    kinds = {"": mean_and_interval, "balanced ": partial(balanced, labels=held.labels)}
    rows = []
    for name, values in found.items():
        base = found[REAL + (JITTERED if name.endswith(JITTERED) else "")]
        row: dict[str, Any] = {"trained on": name}
        for kind, summary in kinds.items():
            value, low, high = summary(torch.stack(values))
            row |= {f"{kind}accuracy": value, f"{kind}low": low, f"{kind}high": high}
            more = summary(torch.stack(values) - torch.stack(base)) if base is not values else (None, None, None)
            names = (f"{kind}difference", f"{kind}difference low", f"{kind}difference high")
            row |= dict(zip(names, more, strict=True))
        rows.append(row | about)
    return rows


def same(x: Tensor) -> Tensor:
    return x


def balanced(values: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """As `mean_and_interval`, for the mean over classes of each class's mean, with labels (N,) of the images. The variance
    over images is that within classes, with 1 added to a class's sum of squares: a few images that agree leave the next one
    open."""
    of_class = [values[:, labels == k] for k in labels.unique()]
    means = torch.stack([v.mean(1) for v in of_class]).mean(0)  # (R,)
    within = [float((v.mean(0) - v.mean()).square().sum() + 1) / v.shape[1] ** 2 for v in of_class]
    return over_repeats(float(means.mean()), sum(within) / len(within) ** 2, means)


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """In plain words, whether synthetic images helped, without and with jitter; for the mean over classes too, where the rarest
    is less than half as frequent as they are on average. Then what else there is to know."""
    by = {r["trained on"]: r for r in rows}
    about, out = by[REAL], []
    uneven = "fewest" in about and 2 * about["classes"] * about["fewest"] < about["images"]
    for kind in ("", "balanced ") if uneven else ("",):
        for end, where in (("", "without other augmentation"), (JITTERED, "beside turned, scaled and shifted images")):
            real, both = by[REAL + end], by[BOTH + end]
            low, high = both[f"{kind}difference low"], both[f"{kind}difference high"]
            what = "helped" if low > 0 else "hurt" if high < 0 else "made no difference that this audit can show"
            if kind:
                where += f" in the mean over {about['classes']} classes (the rarest has {about['fewest']:,} images)"
            out.append(
                f"synthetic images {what} {where}: {real[f'{kind}accuracy']:.2%} on {real['real']:,} real images, "
                f"{both[f'{kind}accuracy']:.2%} with {both['synthetic']:,} synthetic ones (difference "
                f"{100 * both[f'{kind}difference']:+.2f} points, 95 % interval {100 * low:+.2f} to {100 * high:+.2f})"
            )
    if about.get("unlabelled"):
        out.append(
            f"the generator has also seen {about['unlabelled']:,} images without a label, the classifiers have not"
        )
    if about.get("left out"):
        out.append(f"left out, with too few training images to draw from: {', '.join(about['left out'])}")
    return out
