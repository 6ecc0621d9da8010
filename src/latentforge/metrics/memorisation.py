"""Whether samples copy training images: how near the nearest one is, against how near it is for held-out images.

1 is what unseen images of the same kind score, 0 a copy. A blurred image lies nearer to everything, so a blurred sample
scores below 1 without any memory; the Gaussian beside it shows by how much.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.data.batch import Images, at_once
from latentforge.metrics.intervals import around
from latentforge.metrics.subject import Row, Subject, short

QUERIES = 2000


def nearest_distance(images: Tensor, train: Images, chunk: int | None = None) -> Tensor:
    """(N,) root mean square difference per pixel of images (N, C, H, W) to the nearest training image."""
    flat = images.flatten(1)
    best = torch.full((len(flat),), torch.inf)
    for batch in train.batches(chunk or at_once(train.shape, 4000)):
        best = torch.minimum(best, torch.cdist(flat, batch.image.flatten(1).cpu()).amin(1))
    return best / flat.shape[1] ** 0.5


def memorisation_ratio(fake: Tensor, held: Tensor) -> float:
    """Median nearest distance (N,) of samples over that (M,) of held-out images."""
    return float(fake.double().median() / held.double().median().clamp(min=1e-12))


def rows(s: Subject) -> list[Row]:
    if not s.model.can_sample or s.n < 2:
        return []
    n = min(QUERIES, s.n)
    chosen = torch.linspace(0, s.n - 1, n).long()  # of the first set of samples
    fake, gauss, real = (nearest_distance(images[chosen], s.data.train) for images in (s.fake, s.gauss, s.real))
    found = around(lambda a, b: {"r": memorisation_ratio(a, b)}, (fake, real), s.repeats)
    return [{
        "measure": f"memorisation-{short(n)}", **found["r"], "better": "",
        "baseline": memorisation_ratio(gauss, real), "which": s.which, "reference": 1.0, "is": "held-out images",
        "images": n, "sampler": s.sampler,
    }]  # fmt: skip
