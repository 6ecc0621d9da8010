"""The model's own measures over a split: means of what `Game.evaluate` gives per example."""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge import distributed
from latentforge.clock import mix, reseed, seeded
from latentforge.data.batch import Images, at_once
from latentforge.game import Game, evaluating


def mean_measures(model: Game, images: Images, seed: int = 0, limit: int | None = None) -> dict[str, float]:
    """Mean of every measure over the split, or over `limit` images spread over it; summed in float64, noise seeded."""
    return {k: float(v.mean()) for k, v in measures(model, images, seed, limit).items()}


@torch.no_grad()
def measures(model: Game, images: Images, seed: int = 0, limit: int | None = None) -> dict[str, Tensor]:
    """Every measure of each image, (N,) float64 on the CPU."""

    def of(number: int, index: Tensor) -> dict[str, Tensor]:
        reseed(mix(seed, number, 0xE7), model.device)
        found = model.evaluate(images[index].to(model.device))
        return {name: value.cpu().double() for name, value in found.items()}

    with evaluating(model), seeded(device=model.device):
        parts = distributed.each(images.spread(limit or len(images)).split(at_once(images.shape, 500)), of)
    names = dict.fromkeys(k for part in parts for k in part)  # some are of labelled images alone
    return {k: torch.cat([part[k] for part in parts if k in part]) for k in names}
