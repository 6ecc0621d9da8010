"""How good a model is on held-out images: every number beside a trivial baseline and, for samples, beside what real
images score. The table below is all there is to know about which metrics exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from latentforge.data.dataset import open_data
from latentforge.errors import InputError, suggest
from latentforge.game import Game, evaluating
from latentforge.metrics.features import MAKE
from latentforge.metrics.likelihood import BINARISE
from latentforge.metrics.subject import Subject
from latentforge.tasks.encode import need_channels, need_shape


class Metric(NamedTuple):
    """One group of numbers: the function `rows` of a module."""

    module: str  # of latentforge.metrics; its whole name where it is from elsewhere
    what: str
    needs: str  # what a model and its images must have, or there are no such numbers
    quick: bool = True  # part of an evaluation that names no metrics


DRAWN = "a model that samples, and two held-out images"
METRICS = {
    "own": Metric("own", "what the model itself measures: loss, likelihood and KL in nats, squared error",
                  "measures of the model's own"),
    "samples": Metric("samples", "frechet and kernel distance, precision, recall, density, coverage of samples", DRAWN),
    "classes": Metric("classes", "classes that samples show: score, balance, share of the class asked for",
                      "a model that samples, and the features of a classifier (labels; digits for images of digits)"),
    "modes": Metric("modes", "components of a known mixture that samples reach",
                    "a model that samples, of points of a known mixture (ring or grid)"),
    "memorisation": Metric("memorisation", "how near samples are to training images, against held-out images", DRAWN),
    "reconstruction": Metric("reconstruction", "PSNR and SSIM of reconstructions", "an encoder, and images that are no points"),
    "codes": Metric("codes", "match of sampled codes, active units, mutual information, probes",
                    "an encoder, and two held-out images"),
    "nll": Metric("likelihood", "importance-sampled -log p(x), 500 codes per image",
                  "a model with a likelihood (of points, a Gaussian one)", False),
    "smoothness": Metric("smoothness", "how evenly images change between two codes", DRAWN, False),
    "disentanglement": Metric("disentanglement", "MIG, DCI and SAP on data with known factors",
                              "known factors (shapes), and an encoder that is not given them", False),
    "tstr": Metric("tstr", "train on synthetic, test on real, for labelled models",
                   "a model conditioned on classes, and images that have them", False),
    "stacked": Metric("stacked", "the 1,000 modes of stacked-mnist", "a model of stacked-mnist that samples", False),
}  # fmt: skip
OURS = frozenset(METRICS)
QUICK = tuple(name for name, m in METRICS.items() if m.quick)


def evaluate(
    model: Game,
    data: Any,
    split: str = "test",
    seed: int = 0,
    *,
    metrics: str | Sequence[str] = QUICK,
    features: str | Sequence[str] = ("auto",),
    repeats: int = 16,
    binarise: str = "dynamic",
    left_out: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Rows of measure, value, low and high (its 95 % interval), better (lower, higher, or empty where neither is), baseline
    and `which` it is, reference and what it `is`, images, sampler, features. Numbers that a model or its data do not have
    are left out.

    data: a `Dataset`, or what `open_data` makes one of. split: train, validation or test. seed: of the noise and the
    samples. metrics: one or more names of METRICS, or "all". features: spaces that samples are compared in: digits,
    labels, self, pca50, inception, or auto, which chooses by the data.
    repeats: half-samples per interval, 0 for none. binarise: what nll does to the pixels under a Bernoulli likelihood:
    dynamic, static, threshold or grey. left_out: a list that the names of metrics without any number are added to.
    InputError for names that do not exist, and images that do not fit the model.
    """
    metrics, features = ((x,) if isinstance(x, str) else tuple(x) for x in (metrics, features))
    names = chosen(metrics, features)
    if binarise not in BINARISE:
        raise InputError(f"binarise={binarise!r} is not possible: choose {', '.join(BINARISE)}.")
    data = open_data(data)
    if model.has_restorer:  # which takes images of any size
        need_channels(model, data.image_shape[0], data.source)
    else:
        need_shape(model, data.image_shape, data.source)
    subject = Subject(model, data, split, seed, features, repeats, binarise)
    out = []
    with evaluating(model):
        for name in names:
            module = METRICS[name].module
            rows = import_module(f"latentforge.metrics.{module}" if name in OURS else module).rows(subject)
            out += [presentable(row) for row in rows]
            if left_out is not None and not rows:
                left_out.append(name)
    return out


def chosen(metrics: Sequence[str], features: Sequence[str]) -> list[str]:
    """The metrics asked for; InputError where one of them, or of the features, does not exist."""
    names = list(METRICS) if "all" in metrics else list(dict.fromkeys(metrics))
    for what, asked, known in (("metric is", names, METRICS), ("features are", features, {"auto": None, **MAKE})):
        for name in asked:
            if name not in known:
                raise InputError(f"no {what} called '{name}'.{suggest(name, known)} There are {', '.join(known)}.")
    return names


def presentable(row: dict[str, Any]) -> dict[str, Any]:
    """Without missing ends, and with None for nan and infinity, which JSON has no word for."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v
        for k, v in row.items() if v is not None or k in ("value", "baseline", "reference")
    }  # fmt: skip
