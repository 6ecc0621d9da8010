"""How many of the 1,000 combinations of three digits samples of the set `stacked-mnist` show (Metz et al. 2017,
arXiv:1611.02163; the protocol of PacGAN, arXiv:1712.04086, section 4: 26,000 samples), and the KL divergence in nats of
their shares from equal ones. What is left of it for real digits is the floor: a perfect sampler of that many samples does
not score 0."""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.clock import mix
from latentforge.metrics.subject import Row, Subject, gaussian_images, short

SAMPLES = 26_000
MODES = 1000


def stacked_modes(digits: Tensor) -> dict[str, float]:
    """`stacked-modes` (higher is better) and `stacked-kl` (lower) of digits (N, 3)."""
    mode = digits @ torch.tensor([100, 10, 1])
    share = torch.bincount(mode, minlength=MODES).double() / len(mode)
    return {
        "stacked-modes": float((share > 0).sum()),
        "stacked-kl": float(torch.special.xlogy(share, MODES * share).sum()),
    }


def rows(s: Subject) -> list[Row]:
    if s.data.name != "stacked-mnist" or not s.model.can_sample:
        return []
    judge = s.extractor("digits")
    assert judge.classify is not None

    def digits(images: Tensor) -> Tensor:
        return judge.classify(images.flatten(0, 1)[:, None]).argmax(1).unflatten(0, images.shape[:2])  # type: ignore[misc]

    generator = torch.Generator().manual_seed(s.seed)
    seen = digits(s.real)
    shuffled = torch.stack([c[torch.randint(len(c), (SAMPLES,), generator=generator)] for c in seen.unbind(1)], 1)
    parts = [s.model.sample(2000, seed=mix(s.seed, i)).cpu() for i in range(SAMPLES // 2000)]
    found, best = stacked_modes(torch.cat([digits(p) for p in parts])), stacked_modes(shuffled)
    trivial = stacked_modes(digits(gaussian_images(s.data, SAMPLES, s.seed)[0]))
    better = {"stacked-modes": "higher", "stacked-kl": "lower"}
    return [
        {"measure": f"{m}-{short(SAMPLES)}", "value": found[m], "better": better[m], "baseline": trivial[m],
         "which": s.which, "reference": best[m], "is": "held-out digits", "images": SAMPLES, "sampler": s.sampler,
         "features": judge.about}
        for m in found
    ]  # fmt: skip
