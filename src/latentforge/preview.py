"""What a run shows while it trains: samples of one seed, fixed validation images rebuilt, validation measures."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from latentforge.clock import mix, seeded
from latentforge.data.dataset import Dataset
from latentforge.data.modes import is_points
from latentforge.diagnose.signs import signs
from latentforge.game import Game
from latentforge.measures import mean_measures
from latentforge.parts.operators import spoil
from latentforge.report.grid import grid, save
from latentforge.report.points import PAIRS, SHOWN, draw_pairs, draw_samples

LIMIT = 1000  # validation images measured per preview
SHEET = 2**23  # pixels of a sheet, about


def write_previews(model: Game, data: Dataset, folder: Path, round_: int, seed: int) -> dict[str, float]:
    """Write `samples-ROUND.png` (64 samples of a seed that never changes, 2,000 for points), where the model has something
    to draw codes from, with an encoder `reconstructions-ROUND.png` (32 validation images, each followed by its reconstruction;
    300 points, each joined to its own), and of a restorer `restorations-ROUND.png` (24 validation images: spoilt, restored,
    original). A conditional model is told the labels of validation images. Returns the validation measures and the signs
    the doctor reads."""
    points = is_points(data.image_shape)
    with seeded(device=model.device):
        if model.can_sample:
            images = draw(model, data, SHOWN if points else 64, mix(seed, 0x9E))
            sheet = draw_samples(images, data.train, data.modes) if points else grid(images, 8, most=SHEET)
            save(sheet, folder / f"samples-{round_:08d}.png")
        if model.has_encoder:
            held = data.validation[data.validation.spread(PAIRS if points else 32)]
            image, rebuilt = held.image.cpu(), model.reconstruct(held.image, model.labels_of(held)).cpu()
            sheet = (
                draw_pairs(image, rebuilt, data.modes)
                if points
                else grid(torch.stack([image, rebuilt], 1).flatten(0, 1), 8, most=SHEET)
            )
            save(sheet, folder / f"reconstructions-{round_:08d}.png")
        if model.has_restorer:
            original = data.validation[data.validation.spread(24)].image.cpu()
            seen = spoil(original, model.operator, mix(seed, 0x9E))
            size = (original.shape[2], original.shape[3])
            row = [model.operator.naive(seen, size).clamp(0, 1), model.restore(seen, size).cpu(), original]
            save(grid(torch.stack(row, 1).flatten(0, 1), 12, most=SHEET), folder / f"restorations-{round_:08d}.png")
        measures = mean_measures(model, data.validation, seed, limit=LIMIT)
    found = {f"validation/{k}": v for k, v in measures.items()}
    return found | {f"sign/{k}": v for k, v in signs(model, data, seed).items()}


def draw(model: Game, data: Dataset, n: int, seed: int) -> Tensor:
    """(n, C, H, W) from the codes of this seed, with labels spread over the validation images where they are needed."""
    y = None
    if model.condition is not None and data.validation.labels is not None:
        y = data.validation.labels[torch.linspace(0, len(data.validation) - 1, n).long()]
    return model.decode(model.draw_codes(n, seed, y), y)
