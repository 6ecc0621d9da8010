"""How probable held-out images are under a model that has a likelihood: -log p(x), lower is better.

nll: the importance-weighted estimate of Burda et al. 2016, arXiv:1509.00519, equation 8, from K codes per image; an upper
bound that tightens as K grows. Always named after what was done to the pixels, because these numbers do not compare:
dynamic (each image drawn anew as 0s and 1s with its grey values as probabilities), static (drawn once, with a seed that
never changes; not the files of Larochelle), threshold (1 from .5 on), grey (grey values under the Bernoulli loss, which is
no likelihood and has a floor of its own), dequantised (8-bit values plus uniform noise under a Gaussian likelihood).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentforge import distributed
from latentforge.data.batch import Batch
from latentforge.data.modes import is_points
from latentforge.game import evaluating, generator_of
from latentforge.metrics.intervals import around_mean
from latentforge.metrics.subject import Row, Subject, short
from latentforge.parts.likelihood import bernoulli_floor, bernoulli_nll, importance_bound

CODES = 500  # K, per image
IMAGES = 1000
BATCH = 100
STATIC = 0x57A7  # the seed of the static draw
BINARISE = ("dynamic", "static", "threshold", "grey")


def prepare(image: Tensor, how: str, seed: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] as the likelihood sees them."""
    generator = torch.Generator().manual_seed(STATIC if how == "static" else seed)
    if how == "threshold":
        return (image >= 0.5).float()
    if how == "grey":
        return image
    noise = torch.rand(image.shape, generator=generator)
    return (255 * image + noise) / 256 if how == "dequantised" else (noise < image).float()


@torch.no_grad()
def importance_nll(model, batch: Batch, codes: int = CODES, seed: int = 0) -> Tensor:
    """-log p(x) in nats, (N,), of the images of a batch as they are, from `codes` codes each."""

    def of(number: int, index: Tensor) -> Tensor:
        x = batch.image[index].to(model.device)
        y = model.labels_of(Batch(x, None if batch.label is None else batch.label[index], batch.index[index]))
        noise = torch.randn(codes, len(x), model.latent_dim, generator=generator_of(seed, number))
        return importance_bound(model, x, noise.to(x.device).transpose(0, 1), y).cpu()

    with evaluating(model):
        return torch.cat(distributed.each(torch.arange(len(batch)).split(BATCH), of))


def rows(s: Subject) -> list[Row]:
    if not s.model.has_likelihood:
        return []
    bernoulli = getattr(s.model, "likelihood", "bernoulli") == "bernoulli"
    if bernoulli and is_points(s.data.image_shape):
        return []  # coordinates are no shades of grey
    whole = s.held.pixels.dtype == torch.uint8  # of 256 values: the density of anything else is taken where it is
    how = s.binarise if bernoulli else "dequantised" if whole else "grey"
    batch = s.held[s.held.spread(min(IMAGES, s.n))]
    x = prepare(batch.image, how, s.seed)
    nats = importance_nll(s.model, Batch(x, batch.label, batch.index), seed=s.seed)
    found = around_mean(nats)
    trivial: Row = {}
    if bernoulli:
        mean = prepare(s.train, "threshold", s.seed).mean(0) if how == "threshold" else s.train.mean(0)
        logits = torch.logit(mean.clamp(1e-4, 1 - 1e-4)).expand_as(x)
        trivial = {"baseline": float(bernoulli_nll(logits, x).mean()), "which": "independent pixels"}
        if how == "grey":
            trivial |= {"reference": float(bernoulli_floor(x).mean()), "is": "floor of this loss"}
    n = len(x)
    name = f"{how}-{CODES}-{short(n)}"
    out = [{"measure": f"nll-{name}", **found, "better": "lower", **trivial, "images": n}]
    if how != "grey":  # bits of what has finitely many values
        scale, shift = 1 / (x[0].numel() * math.log(2)), 8.0 if how == "dequantised" else 0.0
        bits = {k: scale * v + shift for k, v in (found | trivial).items() if isinstance(v, float)}
        names = {k: v for k, v in trivial.items() if isinstance(v, str)}
        out.append({"measure": f"bits-per-dim-{name}", "better": "lower", **bits, **names, "images": n})
    return out
