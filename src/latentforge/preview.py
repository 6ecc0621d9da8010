"""What a run shows while it trains: fixed codes decoded, fixed validation images rebuilt, validation measures."""

from __future__ import annotations

from pathlib import Path

import torch

from latentforge.clock import mix
from latentforge.data.dataset import Dataset
from latentforge.game import Game
from latentforge.measures import mean_measures
from latentforge.report.grid import grid, save

LIMIT = 1000  # validation images measured per preview


def write_previews(model: Game, data: Dataset, folder: Path, round_: int, seed: int) -> dict[str, float]:
    """Write `samples-ROUND.png` (64 codes that never change) and, with an encoder, `reconstructions-ROUND.png` (32
    validation images, each followed by its reconstruction). Returns the validation measures."""
    with torch.random.fork_rng(devices=[]):
        codes = model.draw_codes(64, mix(seed, 0x9E))
        save(grid(model.decode(codes), 8), folder / f"samples-{round_:08d}.png")
        if model.has_encoder:
            images = data.validation[data.validation.spread(32)].image
            pairs = torch.stack([images.cpu(), model.reconstruct(images).cpu()], 1).flatten(0, 1)
            save(grid(pairs, 8), folder / f"reconstructions-{round_:08d}.png")
        measures = mean_measures(model, data.validation, seed, limit=LIMIT)
    return {f"validation/{k}": v for k, v in measures.items()}
