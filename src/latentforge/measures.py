"""The model's own measures over a split: means of what `Game.evaluate` gives per example."""

from __future__ import annotations

import torch

from latentforge.clock import mix
from latentforge.data.batch import Batch, Images
from latentforge.game import Game


@torch.no_grad()
def mean_measures(model: Game, images: Images, seed: int = 0, limit: int | None = None) -> dict[str, float]:
    """Mean of every measure over the split, or over `limit` images spread over it; summed in float64, noise seeded."""
    chosen = images.spread(limit or len(images))
    total: dict[str, float] = {}
    training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, 0xE7))
        for index in chosen.split(500):
            b = images[index]
            label = None if b.label is None else b.label.to(model.device)
            values = model.evaluate(Batch(b.image.to(model.device), label, b.index))
            for name, value in values.items():
                total[name] = total.get(name, 0.0) + float(value.double().sum())
    model.train(training)
    return {k: v / len(chosen) for k, v in total.items()}
