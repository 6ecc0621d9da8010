"""How good a model is on held-out images: every number beside a trivial baseline and, for samples, beside what real
images score."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset
from latentforge.data.modes import Modes
from latentforge.game import Game
from latentforge.measures import mean_measures
from latentforge.metrics.coverage import density_coverage
from latentforge.metrics.frechet import frechet_distance
from latentforge.metrics.modes import mode_coverage
from latentforge.metrics.pca import PCA
from latentforge.parts.likelihood import bernoulli_floor, bernoulli_nll

FIT = 20_000  # training images a PCA is fitted on
SAMPLES = 10_000


def some(images: Images, n: int) -> Tensor:
    return images[images.spread(n)].image.cpu()


def evaluate(model: Game, data: Dataset, split: str = "test", seed: int = 0) -> list[dict[str, Any]]:
    """Rows of measure, value, better (lower or higher), baseline and its name, reference and its name. Samples are not
    measured where the model has nothing to draw codes from."""
    held: Images = getattr(data, split)
    train, real = some(data.train, FIT), some(held, SAMPLES)
    rows = []
    for name, value in mean_measures(model, held, seed).items():
        row = {
            "measure": name,
            "value": value,
            "better": "" if "logit" in name or name in ("kl_nats", "spoilt_mse") else "lower",
        }
        rows.append(row | baseline(name, model, train, real))
    sampled = []
    if model.can_sample:
        sampled += sample_rows(model, train, real, seed)
    if model.can_sample and data.modes is not None:
        sampled += mode_rows(model, data.modes, train, real, seed)
    if model.can_sample and model.has_encoder:
        sampled += code_rows(model, data.train, held, seed)
    sampler = "prior" if model.sampler is None else model.sampler.kind
    rows += [row | {"sampler": sampler} for row in sampled]
    n = len(held)
    return [row | {"images": row.get("images", n)} for row in rows]


def baseline(name: str, model: Game, train: Tensor, real: Tensor) -> dict[str, Any]:
    """What needs no learning of ours."""
    if name == "reconstruction_mse":
        pca = PCA(train, model.latent_dim)
        return {"baseline": float((pca.reconstruct(real) - real).square().mean()), "which": f"PCA-{len(pca.variances)}",
                "reference": float((train.mean(0) - real).square().mean()), "is": "mean image"}  # fmt: skip
    bernoulli = getattr(model, "likelihood", "bernoulli") == "bernoulli" and getattr(model, "loss", "") != "squared"
    if name == "loss_nats" and bernoulli:
        logits = torch.logit(train.mean(0).clamp(1e-4, 1 - 1e-4)).expand_as(real)
        return {"baseline": float(bernoulli_nll(logits, real).mean()), "which": "independent pixels",
                "reference": float(bernoulli_floor(real).mean()), "is": "floor of this loss"}  # fmt: skip
    return {}


def sample_rows(model: Game, train: Tensor, real: Tensor, seed: int) -> list[dict[str, Any]]:
    """Samples against held-out images in the space of 50 principal components of the training images; none where fewer
    than two images are held out."""
    n = min(len(real), len(train))
    if n < 2:  # one image has no spread to compare
        return []
    pca = PCA(train, 50)
    again = train[torch.linspace(0, len(train) - 1, n).long()]
    k = len(pca.variances)
    features, fake = pca(real[:n]), pca(model.sample(n, seed=seed).cpu())
    gauss, others = pca.gaussian_scores(n, seed), pca(again)
    neighbours = min(5, n - 1)
    dense, floor, trivial = (density_coverage(features, f, neighbours) for f in (fake, others, gauss))
    tail = {"which": "one Gaussian", "is": "training images", "images": n}
    rows = [{
        "measure": f"frechet-pca{k}-{n}", "value": frechet_distance(features, fake), "better": "lower",
        "baseline": frechet_distance(features, gauss), "reference": frechet_distance(features, others), **tail,
    }]  # fmt: skip
    rows += [
        {"measure": f"{m}-pca{k}-{n}", "value": dense[m], "better": "higher", "baseline": trivial[m],
         "reference": floor[m], **tail}
        for m in ("density", "coverage")
    ]  # fmt: skip
    return rows


def mode_rows(model: Game, modes: Modes, train: Tensor, real: Tensor, seed: int) -> list[dict[str, Any]]:
    """As many samples as held-out points among the components of the mixture that the points were drawn from."""
    n = len(real)
    points = modes.to_units(train)
    scale = torch.linalg.cholesky(torch.cov(points.T))
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gauss = points.mean(0) + noise @ scale.T
    fake = modes.to_units(model.sample(n, seed=seed))
    found, trivial, best = (mode_coverage(p, modes) for p in (fake, gauss, modes.to_units(real)))
    better = {"modes": "higher", "high_quality": "higher", "reverse_kl": "lower"}
    return [
        {"measure": m, "value": number(found[m]), "better": b, "baseline": number(trivial[m]), "which": "one Gaussian",
         "reference": number(best[m]), "is": "held-out points", "images": n}
        for m, b in better.items()
    ]  # fmt: skip


def code_rows(model: Game, train: Images, held: Images, seed: int) -> list[dict[str, Any]]:
    """How well the codes that are sampled from match those of held-out images."""
    n = min(len(held), len(train), SAMPLES)
    if n < 2:
        return []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        real, again = (model.codes_of(Images(s.pixels[s.spread(n)], labels_at(s, n)))[0] for s in (held, train))
    generator = torch.Generator().manual_seed(seed)
    trivial = real.mean(0) + real.std(0) * torch.randn(n, real.shape[1], generator=generator)
    value, base, floor = (frechet_distance(real, c) for c in (model.draw_codes(n, seed), trivial, again))
    return [{"measure": f"codes-frechet-{n}", "value": value, "better": "lower", "baseline": base,
             "which": "independent Gaussians", "reference": floor, "is": "training images", "images": n}]  # fmt: skip


def labels_at(images: Images, n: int) -> Tensor | None:
    return None if images.labels is None else images.labels[images.spread(n)]


def number(value: float) -> float | None:
    """None for nan, which JSON has no word for: no sample was near a component."""
    return None if math.isnan(value) else value
