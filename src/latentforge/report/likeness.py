"""How like real images are: generated ones on a map with real ones, how a pixel distance misjudges, and how models take
noise in what they are shown."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from latentforge.data.batch import at_once
from latentforge.game import Game
from latentforge.metrics.reconstruction import psnr
from latentforge.metrics.subject import Subject, some
from latentforge.report.grid import grid
from latentforge.report.latent import principal_axes
from latentforge.report.plots import Look, inline, legend, plain_axes, plot

CLOUD = 600  # images and samples on a map
SIGMAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # article 000's noise levels
NOISY = 500  # images behind the scores
TRIPLES = 4


def clouds(model: Game, s: Subject) -> dict[str, Any]:
    """Generated against real images in the two directions in which real images differ most, in the judge's features."""
    if not model.can_sample:
        return {"why": "nothing is sampled"}
    e = s.extractors[0]
    n = min(CLOUD, s.n)
    real, fake = e(s.real[:: max(1, s.n // n)][:n]), e(model.sample(n, seed=0).cpu())
    centre, axes, _ = principal_axes(real)
    axes = pad(axes, (0, 0, 0, 2 - len(axes)))  # of a single feature there is one
    return plot(partial(cloud, (real - centre) @ axes.T, (fake - centre) @ axes.T), 3.7, 3.2) | {"features": e.name}


def cloud(real: Tensor, fake: Tensor, figure: Any, look: Look) -> None:
    axes = figure.add_subplot()
    for points, colour, name in ((real, look.series[0], "real"), (fake, look.series[1], "generated")):
        axes.scatter(*points.T.numpy(), s=5, color=colour, linewidths=0, alpha=0.7, label=name)
    plain_axes(axes, look)
    axes.grid(False)
    legend(figure, axes)


def equally_far(s: Subject) -> list[dict[str, Any]]:
    """Triples of an image, the same one moved by a few pixels, and another image that is just as far from it in squared
    error (article 003): of another class where there are classes. Real images only; models have no part in it."""
    h, w = s.data.image_shape[1:]
    if min(h, w) < 8 or s.n < 20:
        return []
    batch = some(s.held, at_once(s.data.image_shape, min(s.n, 2000)))
    shift = max(2, h // 12)
    out = []
    for i in torch.linspace(0, len(batch.image) - 1, TRIPLES + 2).long()[1:-1].tolist():
        image = batch.image[i]
        moved = torch.roll(image, (shift, shift), (1, 2))
        distance = (batch.image - image).square().mean((1, 2, 3))
        target = float((moved - image).square().mean())
        gap = (distance - target).abs()
        gap[i] = torch.inf
        if batch.label is not None and s.data.num_classes > 1:
            gap[batch.label == batch.label[i]] = torch.inf
        j = int(gap.argmin())
        if not torch.isfinite(gap[j]):
            continue
        out.append({
            **inline(grid(torch.stack([image, moved, batch.image[j]]), 3)),
            "moved": f"{target:.3f}", "other": f"{float(distance[j]):.3f}", "shift": shift,
        })  # fmt: skip
    return out


def noise(models: dict[str, Game], s: Subject) -> dict[str, Any] | None:
    """What encoders make of images with Gaussian noise of growing standard deviation: reconstructions, and their PSNR to
    the clean images beside that of the noisy ones themselves."""
    able = {n: m for n, m in models.items() if m.has_encoder}
    if not able or min(s.data.image_shape[1:]) < 2:
        return None
    batch = some(s.held, at_once(s.data.image_shape, min(NOISY, s.n)))
    generator = torch.Generator().manual_seed(s.seed)
    drawn = torch.randn(batch.image.shape, generator=generator)
    names = ["the noisy images", *able]
    scores: dict[str, list[float]] = {n: [] for n in names}
    firsts: dict[str, list[Tensor]] = {n: [] for n in names}  # all that is kept of the images

    def note(name: str, images: Tensor) -> None:
        scores[name].append(float(psnr(images, batch.image).mean()))
        firsts[name].append(images[0].clone())

    for sigma in SIGMAS:
        noisy = (batch.image + sigma * drawn).clamp(0, 1)
        note(names[0], noisy)
        for name, model in able.items():
            note(name, model.reconstruct(noisy, model.labels_of(batch)).cpu())
    sheets = [{"name": "shown" if n == names[0] else n, **inline(grid(torch.stack(x), len(SIGMAS)))}
              for n, x in firsts.items()]  # fmt: skip
    table = [{"name": n, "cells": [f"{v:.1f}" if v < 99 else "exact" for v in values]} for n, values in scores.items()]
    return {
        "sigmas": [f"{x:g}" for x in SIGMAS], "rows": sheets, "table": table,
        **plot(partial(falling, scores), 4.4, 2.8),
    }  # fmt: skip


def falling(scores: dict[str, list[float]], figure: Any, look: Look) -> None:
    axes = figure.add_subplot()
    for i, (name, values) in enumerate(scores.items()):
        colour, style = (look.ink, "--") if i == 0 else (look.series[(i - 1) % len(look.series)], "-o")
        shown = [(x, v) for x, v in zip(SIGMAS, values, strict=True) if v < 99]
        axes.plot(*zip(*shown, strict=True), style, color=colour, lw=1.3, ms=3, label=name)
    axes.set_xlabel("standard deviation of the noise")
    axes.set_ylabel("PSNR to the clean image, dB")
    plain_axes(axes, look)
    legend(figure, axes)
