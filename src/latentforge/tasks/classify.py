"""Classes by Bayes' rule, as article 003 opens: a model of p(x, y), image and class together, knows p(y | x) too.

    p(y | x) = p(x | y) p(y) / p(x),    p(x) = sum over y of p(x | y) p(y)

log p(x | y) is the importance-weighted bound of Burda et al. 2016, arXiv:1509.00519, equation 8: of a model that is told
the class, or of one model for each class. Every class is asked with the same noise, most of which their differences do not
see. p(x) says what a classifier cannot: whether the image is of any of the classes. A likelihood of pixels counts every
pixel as evidence of its own, so the probabilities are far too sure of themselves; one temperature, fitted on held-out
images, mends that and changes no decision (Guo et al. 2017, arXiv:1706.04599, section 4.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from latentforge.clock import mix
from latentforge.data import Images
from latentforge.data.batch import at_once
from latentforge.errors import InputError
from latentforge.game import Game, evaluating
from latentforge.parts.likelihood import importance_bound
from latentforge.tasks.encode import Pictures, images_of, need_shape

CODES = 8  # per image and class
BATCH = 250
BINS = 15  # of the calibration error


@dataclass(frozen=True)
class Verdict:
    """What Bayes' rule says of N images under K classes. `log_joint` (N, K) is log p(x, y) in nats, `temperature` divides
    it in p(y | x) alone."""

    log_joint: Tensor
    temperature: float = 1.0

    @property
    def probability(self) -> Tensor:
        """p(y | x), (N, K)."""
        return (self.log_joint / self.temperature).softmax(1)

    @property
    def label(self) -> Tensor:
        """The likeliest class (N,) int64."""
        return self.log_joint.argmax(1)

    @property
    def log_evidence(self) -> Tensor:
        """log p(x), (N,) nats; low for an image of no class."""
        return self.log_joint.logsumexp(1)


def need_likelihood(model: Game) -> None:
    """InputError where a model gives no density of an image."""
    if not model.has_likelihood:
        raise InputError(f"{model.name} has no likelihood, which Bayes' rule needs; train cvae, or vae on each class.")


def tells_classes(model: Any) -> bool:
    """Whether a model learned to tell classes apart: it gives p(y | x) itself, and no density of each class."""
    return hasattr(model, "classify")


@torch.no_grad()
def log_verdicts(model: Any, images: Images, codes: int = CODES, seed: int = 0) -> Tensor:
    """`log_joint`, or of a model that tells classes apart itself log p(y | x), (N, K) nats, whose sum over the classes says
    nothing of the image."""
    if not tells_classes(model):
        return log_joint(model, images, codes=codes, seed=seed)
    return model.classify(images).float().cpu()


def need_classes(model: Game) -> None:
    """InputError where a model gives no density of an image for each class."""
    need_likelihood(model)
    if model.condition is None or not model.condition.classes:
        raise InputError(
            f"{model.name} is not conditioned on classes, so it has no density of each; train cvae for that."
        )


@torch.no_grad()
def log_joint(
    models: Game | Sequence[Game], images: Images, prior: Tensor | None = None, codes: int = CODES, seed: int = 0
) -> Tensor:
    """log p(x, y) = log p(x | y) + log p(y), (N, K) nats, from `codes` codes for each image and class.

    models: one that is told classes, or K of them, one per class. prior: p(y), (K,); by default the classes' shares of the
    training images in the first case and all alike in the second. InputError where a model has no likelihood.
    """
    asked: list[tuple[Game, Tensor | None]]
    if isinstance(models, Game):
        need_classes(models)
        condition: Any = models.condition
        k, share = condition.size, condition.share.cpu()
        asked = [(models, torch.tensor(y)) for y in range(k)]
    else:
        k, share, asked = len(models), torch.full((len(models),), 1 / len(models)), [(m, None) for m in models]
        for m in models:
            need_likelihood(m)
    need_shape(asked[0][0], images.shape, "images")
    out, size = torch.empty(len(images), k), at_once(images.shape, BATCH)
    for column, (model, y) in enumerate(asked):
        generator = torch.Generator().manual_seed(mix(seed, 0xBA7E5))
        noise = torch.randn(1, codes, model.latent_dim, generator=generator).to(model.device)
        with evaluating(model):
            for start, batch in zip(range(0, len(images), size), images.batches(size), strict=True):
                x = batch.image.to(model.device)
                told = None if y is None else y.to(model.device).expand(len(x))
                bound = importance_bound(model, x, noise.expand(len(x), -1, -1), told)
                out[start : start + len(x), column] = -bound.cpu()
    return out + (share if prior is None else prior).clamp(min=1e-12).log()


def fit_temperature(log_joint: Tensor, labels: Tensor) -> float:
    """The temperature under which the classes (N,) of held-out images are likeliest. Each image counts for 1 / (N + 2)
    as one of its likeliest wrong class (after Platt 1999, "Probabilistic outputs for support vector machines"): N
    images without a mistake do not stand for certainty."""
    share = 1 / (len(labels) + 2)
    wrong = log_joint.scatter(1, labels[:, None], -torch.inf).argmax(1)

    def nats(log_temperature: float) -> float:
        scaled = log_joint.double() / torch.tensor(log_temperature).exp()
        return float((1 - share) * F.cross_entropy(scaled, labels) + share * F.cross_entropy(scaled, wrong))

    return float(torch.tensor(minimize_scalar(nats, bounds=(-3, 8), method="bounded").x).exp())


def least_evidence(log_px: Tensor, reject: float) -> float:
    """The log p(x) below which at most the share `reject` of images of the classes is expected, nats, from those (N,)
    of held-out ones: the floor((N + 1) reject)-th lowest, or, where N is too small, the lowest, below which 1 in N + 1
    is."""
    k = math.floor((len(log_px) + 1) * reject + 1e-9)
    return float(log_px.sort().values[min(max(k, 1), len(log_px)) - 1])


def classify(
    model: Game, images: Pictures, held: Images | None = None, codes: int = CODES, seed: int = 0
) -> Verdict:  # fmt: skip
    """p(x, y) of images under a model conditioned on classes, or p(y | x) of a semi-supervised one (`ssl-gan`), which has no
    density to reject by; with labelled images `held` out of its training, the temperature of p(y | x) is fitted on them.

    images: as `embed` takes them. codes: codes per image and class of the estimate of log p(x | y). seed: of their noise.
    InputError where the model does neither, or the images do not fit."""
    judged, temperature = images_of(images), 1.0
    if held is not None and held.labels is not None and len(known := held.labelled()):
        assert known.labels is not None
        temperature = fit_temperature(log_verdicts(model, known, codes, seed), known.labels.cpu())
    return Verdict(log_verdicts(model, judged, codes, seed), temperature)


def measures(verdict: Verdict, labels: Tensor) -> dict[str, float]:
    """Of classes (N,): accuracy; the calibration error of the likeliest class (mean gap between confidence and accuracy
    over 15 bins, weighted by their images: Naeini et al., AAAI 2015), and the same without the temperature; and
    -log p(y | x) in nats."""
    from torchmetrics.functional.classification import multiclass_calibration_error as gap

    k, labels = verdict.log_joint.shape[1], labels.cpu()
    plain = Verdict(verdict.log_joint)
    log_p = (verdict.log_joint.double() / verdict.temperature).log_softmax(1)
    return {
        "accuracy": float((verdict.label == labels).double().mean()),
        "calibration_error": float(gap(verdict.probability, labels, k, n_bins=BINS)),
        "calibration_error_at_1": float(gap(plain.probability, labels, k, n_bins=BINS)),
        "nats": float(-log_p[torch.arange(len(labels)), labels].mean()),
    }
