"""Pictures of what one or several models have learned: walks, maps, clouds, noise. The page of a run shows one model's, the
page of a comparison all models' side by side."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from latentforge.data.dataset import Dataset
from latentforge.data.modes import is_points
from latentforge.game import Game
from latentforge.metrics.subject import Subject
from latentforge.report import latent, likeness
from latentforge.report.grid import grid
from latentforge.report.plots import inline
from latentforge.report.points import SHOWN, draw_samples
from latentforge.tasks.interpolate import interpolate

WALKS, STEPS = 4, 9


def sheet(images: Tensor, data: Dataset) -> dict[str, Any]:
    return inline(draw_samples(images, data.train, data.modes) if is_points(data.image_shape) else grid(images, 8))


def samples(model: Game, data: Dataset) -> dict[str, Any]:
    """64 samples, 2,000 of points, and where their codes come from, or why there are none."""
    if not model.can_sample:
        return {"why": "no prior to draw codes from, and no sampler was fitted"}
    n = SHOWN if is_points(data.image_shape) else 64
    return sheet(model.sample(n, seed=0).cpu(), data) | {
        "sampler": "the prior" if model.sampler is None else f"a fitted {model.sampler.kind}"
    }


def latent_space(models: dict[str, Game], s: Subject) -> dict[str, Any]:
    """What the templates call walks, maps, clouds, noise and pairs; empty where the images are points."""
    if is_points(s.data.image_shape):
        return {"walks": [], "maps": [], "clouds": [], "noise": None, "pairs": []}
    return {
        "walks": [{"name": n, **walks(m)} for n, m in models.items()],
        "maps": [{"name": n, **latent.maps(m, s)} for n, m in models.items()],
        "clouds": [] if s.n < 8 else [{"name": n, **likeness.clouds(m, s)} for n, m in models.items()],
        "noise": likeness.noise(models, s),
        "pairs": likeness.equally_far(s),
    }


def walks(model: Game) -> dict[str, Any]:
    """Straight lines between sampled codes."""
    if not model.can_sample:
        return {"why": "no codes to interpolate between"}
    y = model.draw_labels(WALKS, seed=0)
    start, to = (model.draw_codes(WALKS, seed, y).to(model.device) for seed in (0, 1))
    return inline(grid(interpolate(model, start, to, STEPS, y=y).flatten(0, 1).cpu(), STEPS))
