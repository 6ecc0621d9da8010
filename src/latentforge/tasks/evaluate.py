"""How good a model is on held-out images: every number beside a trivial baseline and, for samples, beside what real
images score."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset
from latentforge.game import Game
from latentforge.measures import mean_measures
from latentforge.metrics.coverage import density_coverage
from latentforge.metrics.frechet import frechet_distance
from latentforge.metrics.pca import PCA
from latentforge.parts.likelihood import bernoulli_floor, bernoulli_nll

FIT = 20_000  # training images a PCA is fitted on
SAMPLES = 10_000


def some(images: Images, n: int) -> Tensor:
    return images[images.spread(n)].image.cpu()


def evaluate(model: Game, data: Dataset, split: str = "test", seed: int = 0) -> list[dict[str, Any]]:
    """Rows of measure, value, better (lower or higher), baseline and its name, reference and its name."""
    held: Images = getattr(data, split)
    train, real = some(data.train, FIT), some(held, SAMPLES)
    rows = []
    for name, value in mean_measures(model, held, seed).items():
        row = {"measure": name, "value": value, "better": "" if "logit" in name or name == "kl_nats" else "lower"}
        rows.append(row | baseline(name, model, train, real))
    rows += sample_rows(model, train, real, seed)
    n = len(held)
    return [row | {"images": row.get("images", n)} for row in rows]


def baseline(name: str, model: Game, train: Tensor, real: Tensor) -> dict[str, Any]:
    """What needs no learning of ours."""
    if name == "reconstruction_mse":
        pca = PCA(train, model.latent_dim)
        return {"baseline": float((pca.reconstruct(real) - real).square().mean()), "which": f"PCA-{model.latent_dim}",
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
