"""How evenly images change on the straight line between two codes: the largest step over the mean step, in the first
chosen feature space, mean over pairs of codes. 1 is even, lower is better; a cross-fade of the two end images beside it.
The idea of measuring paths is that of Karras et al. 2019, arXiv:1812.04948, section 4.1; a ratio needs no unit."""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.metrics.features import Extractor, within
from latentforge.metrics.intervals import around_mean
from latentforge.metrics.subject import Row, Subject, short
from latentforge.tasks.interpolate import interpolate

PATHS, STEPS = 200, 16


def unevenness(paths: Tensor) -> Tensor:
    """(P,) the largest step over the mean step of paths (P, S + 1, F); 1 where a path never moves."""
    steps = paths.diff(dim=1).double().norm(dim=2)
    mean = steps.mean(1)
    return torch.where(mean > 0, steps.amax(1) / mean.clamp(min=1e-12), 1.0)


def rows(s: Subject) -> list[Row]:
    model = s.model
    if not model.can_sample or s.n < 2:
        return []
    whole = PATHS * (STEPS + 1)  # images, fewer where they are large
    n = min(s.n, within(whole, s.data.image_shape) // (STEPS + 1))
    y = model.draw_labels(n, seed=s.seed)
    ends = [model.draw_codes(n, s.seed + i, y).to(model.device) for i in (0, 1)]
    images = interpolate(model, ends[0], ends[1], STEPS + 1, y=y).cpu()  # (P, S + 1, C, H, W)
    shares = torch.linspace(0, 1, STEPS + 1).tolist()
    fade = torch.stack([torch.lerp(images[:, 0], images[:, -1], w) for w in shares], 1)
    e = s.extractors[0]
    return [{
        "measure": f"unevenness-{e.name}-{short(n)}", **around_mean(unevenness(along(e, images))), "better": "lower",
        "baseline": float(unevenness(along(e, fade)).mean()), "which": "cross-fade", "reference": 1.0,
        "is": "even steps", "images": n, "sampler": s.sampler, "features": e.about,
    }]  # fmt: skip


def along(e: Extractor, images: Tensor) -> Tensor:
    return e(images.flatten(0, 1)).unflatten(0, images.shape[:2])
