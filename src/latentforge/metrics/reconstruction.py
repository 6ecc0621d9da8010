"""How true reconstructions of held-out images are, by the arithmetic of torchmetrics. Higher is better for both.

psnr: 10 log10(1 / MSE) in decibels, mean over images. ssim: structural similarity (Wang et al. 2004), Gaussian window
11x11 of sigma 1.5, so images need sides of 11 and more.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentforge.data.batch import at_once
from latentforge.metrics.intervals import around_mean
from latentforge.metrics.subject import Row, Subject, short

WINDOW = 11


def psnr(rebuilt: Tensor, image: Tensor) -> Tensor:
    """(N,) decibels of images (N, C, H, W) in [0, 1]."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    values = peak_signal_noise_ratio(rebuilt, image, data_range=1.0, dim=(1, 2, 3), reduction="none")
    return values.clamp(max=100)  # an image rebuilt exactly has no finite one


def decibels(error: float) -> float:
    """The peak signal-to-noise ratio, decibels, of a mean squared error of values in [0, 1]; infinite where there is none."""
    return -10 * math.log10(error) if error else math.inf


def ssim(rebuilt: Tensor, image: Tensor) -> Tensor:
    """(N,) structural similarity of images (N, C, H, W) in [0, 1]."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    c, h, w = image.shape[1:]
    size = at_once((c, h, w), 500)
    parts = zip(rebuilt.split(size), image.split(size), strict=True)
    values = [structural_similarity_index_measure(a, b, data_range=1.0, reduction="none") for a, b in parts]
    return torch.cat([torch.atleast_1d(v) for v in values])


def rows(s: Subject) -> list[Row]:
    if not s.model.has_encoder or min(s.data.image_shape[1:]) < 2:
        return []
    batch = s.held[s.held.spread(s.n)]
    rebuilt = s.model.reconstruct(batch.image, s.model.labels_of(batch)).cpu()
    pca = s.pca(s.model.latent_dim)
    linear, mean = pca.reconstruct(s.real), s.train.mean(0).expand_as(s.real)
    out = []
    for name, measure in (("psnr", psnr), ("ssim", ssim)):
        if name == "ssim" and min(s.data.image_shape[1:]) < WINDOW:
            continue
        out.append({
            "measure": f"{name}-{short(len(rebuilt))}", **around_mean(measure(rebuilt, s.real)), "better": "higher",
            "baseline": float(measure(linear, s.real).mean()), "which": f"PCA-{len(pca.variances)}",
            "reference": float(measure(mean, s.real).mean()), "is": "mean image", "images": len(rebuilt),
        })  # fmt: skip
    return out
