"""Which components of a known mixture a sampler reaches (PacGAN, Lin et al. 2018, arXiv:1712.04086, section 4, after
VEEGAN, Srivastava et al. 2017, arXiv:1705.07761). More modes and more high quality are better, less divergence is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentforge.data.modes import Modes
from latentforge.metrics.subject import Row, Subject


def mode_coverage(points: Tensor, modes: Modes) -> dict[str, float]:
    """`modes`, `high_quality` and `reverse_kl` of points (N, 2) in the units of `modes`.

    A point belongs to its nearest centre and is of high quality where it is less than 3 standard deviations from
    it. With n_k high-quality points at centre k and n = sum n_k:

    modes: the number of k with n_k > 0. It grows with N, so compare equal N only.
    high_quality: n / N; a perfect sampler gets 1 - exp(-3^2 / 2) = .9889.
    reverse_kl: sum_k q_k log(K q_k) with q_k = n_k / n, the divergence in nats of the samples' distribution q over
    components from the uniform one; points that are not of high quality are left out, as in the authors' code. A
    perfect sampler gets about (K - 1) / 2n, one that knows a single component log K; nan where n = 0.
    """
    distance, nearest = torch.cdist(points.double().cpu(), torch.from_numpy(modes.centres)).min(1)
    good = nearest[distance < 3 * modes.std]
    counts = torch.bincount(good, minlength=len(modes)).double()
    q = counts[counts > 0] / max(1, len(good))
    return {
        "modes": int((counts > 0).sum()),
        "high_quality": len(good) / len(points),
        "reverse_kl": float((q * (q * len(modes)).log()).sum()) if len(good) else math.nan,
    }


def rows(s: Subject) -> list[Row]:
    """As many samples as held-out points among the components of the mixture that the points were drawn from."""
    modes = s.data.modes
    if modes is None or not s.model.can_sample:
        return []
    points = modes.to_units(s.train)
    scale = torch.linalg.cholesky(torch.cov(points.T))
    noise = torch.randn(s.n, 2, generator=torch.Generator().manual_seed(s.seed), dtype=torch.float64)
    gauss = points.mean(0) + noise @ scale.T
    found, trivial, best = (
        mode_coverage(p, modes) for p in (modes.to_units(s.fake[: s.n]), gauss, modes.to_units(s.real))
    )
    better = {"modes": "higher", "high_quality": "higher", "reverse_kl": "lower"}
    return [
        {"measure": m, "value": found[m], "better": b, "baseline": trivial[m], "which": "one Gaussian",
         "reference": best[m], "is": "held-out points", "images": s.n, "sampler": s.sampler}
        for m, b in better.items()
    ]  # fmt: skip
