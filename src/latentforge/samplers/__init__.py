"""Densities over codes, fitted after training and saved with the model. `prior` means none.

Every sampler is a module with `kind`, `classes` (K where it needs labels, else 0), `scores` and a JSON-able `config`;
`draw(n, generator, labels=None)` returns codes (n, Z), `log_prob(codes, labels=None)` nats (N,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentforge.errors import InputError, RunError
from latentforge.samplers.flow import Flow
from latentforge.samplers.gmm import GaussianMixture
from latentforge.samplers.per_label import PerLabel

Sampler = Literal["auto", "prior", "gmm", "flow"]
SECONDS = {"prior": 0.0, "gmm": 20.0, "flow": 20.0, "auto": 40.0}  # what a fit may take of a budget in minutes
PER_CLASS = 0.05  # seconds, of a mixture for each class
CODES = 100_000  # of training images: of more, every second, third … is taken
EACH = 1000  # of a class at least, where it has as many
HELD = 20_000  # of validation images, by which samplers are compared


def seconds_for(kind: str, classes: int = 0) -> float:
    """What a fit may take of a budget in minutes, where it is told so many classes."""
    return max(SECONDS[kind], PER_CLASS * classes) if kind in ("gmm", "auto") else SECONDS[kind]


def rows_to_fit(n: int, labels: Tensor | None = None) -> Tensor:
    """Which of n training images to encode for a fit, (K,): all where they are no more than `CODES`, else every k-th with
    the least k that leaves no more; every k-th of each class where the model is told their classes (N,), and of none (-1)."""
    if n <= CODES:
        return torch.arange(n)
    if labels is None:
        return torch.arange(n)[:: -(-n // CODES)]
    classes = labels.unique().tolist()
    rows = []
    for k in classes:
        own, most = torch.nonzero(labels.cpu() == k)[:, 0], CODES if k < 0 else max(EACH, CODES // len(classes))
        rows.append(own[:: -(-len(own) // most)])
    return torch.cat(rows).sort().values


def fit(
    kind: str,
    codes: Tensor,
    held: Tensor,
    labels: Tensor | None = None,
    held_labels: Tensor | None = None,
    prior: Callable[[Tensor], Tensor] | None = None,
    compared: dict[str, float] | None = None,
    classes: int = 0,
) -> nn.Module | None:
    """The sampler `kind` fitted to codes (N, Z); with labels (N,) in 0..K-1, one density per class. Codes of unknown class
    (-1) belong to none, but still shape what a flow's classes share, and a mixture of all codes stands in for classes
    that have next to none. `auto` fits gmm and flow and returns the one under which the validation codes `held` (M, Z) have
    the highest mean log density, or None where `prior`, codes (M, Z) to log density (M,), beats both. A kind asked for by
    name is returned whatever its score.

    The result's `scores` holds the finite mean log densities of `held` in nats that were compared, by kind; so does
    `compared` afterwards, where it is given. `classes` is K where there are more than the labels show.
    RunError where codes are not finite or there are none, InputError where `auto` has nothing to compare on.
    """
    if kind == "prior":
        return None
    codes, held = codes.detach().float().cpu(), held.detach().float()
    if not (codes.isfinite().all() and held.isfinite().all()):
        raise RunError("the encoder's codes are not finite, so no sampler can be fitted; lower --lr or set --clip 1.")
    if not len(codes):
        raise RunError("there are no codes to fit a sampler on; use --sampler prior.")
    if labels is None:
        classes = 0
    else:
        if len(held) and held_labels is None:
            raise InputError("a sampler per class needs the labels of the validation images too.")
        labels = labels.cpu()
        held_labels = labels[:0] if held_labels is None else held_labels.cpu()
        classes = max(classes, 1 + int(torch.cat([labels, held_labels]).max()))
        held, held_labels = held[held_labels.to(held.device) >= 0], held_labels[held_labels >= 0]
    if kind == "auto" and not len(held):
        raise InputError("--sampler auto compares on validation images, and there are none; name gmm, flow or prior.")
    candidates = {k: fit_one(k, codes, labels, classes) for k in (("gmm", "flow") if kind == "auto" else (kind,))}
    scores: dict[str, float] = {}
    if len(held):
        values = {k: sampler.log_prob(held, held_labels) for k, sampler in candidates.items()}
        if prior is not None:
            values["prior"] = prior(held)
        scores = {k: float(v.cpu().double().mean()) for k, v in values.items()}
        scores = {k: v for k, v in scores.items() if math.isfinite(v)}
    if compared is not None:
        compared.update(scores)
    best = max(scores, key=scores.__getitem__) if kind == "auto" and scores else kind
    if best == "prior":
        return None
    if best not in candidates:
        raise RunError("no sampler gives the validation codes a finite likelihood; use --sampler gmm or prior.")
    candidates[best].scores.update(scores)
    return candidates[best]


def fit_one(kind: str, codes: Tensor, labels: Tensor | None, classes: int) -> Any:
    if kind == "flow":
        return Flow.fit(codes, labels, classes)
    if kind != "gmm":
        raise InputError(f"there is no sampler '{kind}' to fit; choose auto, gmm or flow.")
    return GaussianMixture.fit(codes) if labels is None else PerLabel.fit(GaussianMixture.fit, codes, labels, classes)


def build(config: dict[str, Any]) -> nn.Module:
    """An unfitted sampler of the shape `sampler.config` describes, ready for its saved tensors."""
    sizes = dict(config)
    kind, scores, parts = sizes.pop("kind"), sizes.pop("scores", {}), sizes.pop("parts", None)
    out: Any
    if parts is not None:
        out = PerLabel([build(part) for part in parts])
    else:
        out = {"gmm": GaussianMixture, "flow": Flow}[kind](**sizes)
    out.scores.update(scores)
    return out


def sampler_for(model: Any, asked: Sampler | None) -> Sampler:
    """What codes of a model will be drawn from: what is asked for, else its own default. InputError where there are no
    codes to fit it on."""
    if asked not in (None, "prior") and not model.has_encoder:
        raise InputError(f"{model.name} has no encoder to fit a sampler on; leave out --sampler {asked}.")
    return asked or model.sampler_kind
