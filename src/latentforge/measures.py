"""The model's own measures over a split: means of what `Game.evaluate` gives per example."""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.clock import mix
from latentforge.data.batch import Batch, Images
from latentforge.game import Game, evaluating


def mean_measures(model: Game, images: Images, seed: int = 0, limit: int | None = None) -> dict[str, float]:
    """Mean of every measure over the split, or over `limit` images spread over it; summed in float64, noise seeded."""
    return {k: float(v.mean()) for k, v in measures(model, images, seed, limit).items()}


@torch.no_grad()
def measures(model: Game, images: Images, seed: int = 0, limit: int | None = None) -> dict[str, Tensor]:
    """Every measure of each image, (N,) float64 on the CPU."""
    found: dict[str, list[Tensor]] = {}
    with evaluating(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, 0xE7))
        for index in images.spread(limit or len(images)).split(500):
            b = images[index]
            label = None if b.label is None else b.label.to(model.device)
            for name, value in model.evaluate(Batch(b.image.to(model.device), label, b.index)).items():
                found.setdefault(name, []).append(value.double().cpu())
    return {k: torch.cat(v) for k, v in found.items()}
