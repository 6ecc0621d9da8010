"""What a latent space looks like: maps of the codes of held-out images, what their axes mean, and how the codes lie beside
those that are sampled from."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentforge.clock import seeded
from latentforge.data.batch import Images
from latentforge.game import Game
from latentforge.metrics.subject import Subject
from latentforge.report.grid import grid
from latentforge.report.plots import Look, inline, plain_axes, plot
from latentforge.tasks.directions import principal_directions

POINTS = 600
ITERATIONS = 500  # of t-SNE
REACH, STEPS = 2.5, 9  # standard deviations to each side of a traversal, images in it
MARKS = "o^sD*"  # of the first classes that there are colours for, of the next ...
MOST = 30  # classes that a legend names
DIMENSIONS = 8  # shown as histograms, those that vary most


def maps(model: Game, s: Subject) -> dict[str, Any]:
    """Pictures of the codes of at most 600 held-out images; `why` there are none."""
    if not model.has_encoder:
        return {"why": "no encoder"}
    if s.n < 8:
        return {"why": "too few images"}
    batch = s.held[s.held.spread(min(POINTS, s.n))]
    y = model.told_with(batch)
    codes = model.mean_codes(batch.image, y).cpu().double()
    if float((codes - codes[0]).abs().max()) <= 1e-12 * float(codes.abs().max()):  # t-SNE would crash
        return {"why": "all images have the same code"}
    label = batch.label if s.data.num_classes > 1 else None
    names = s.data.classes or [str(k) for k in range(s.data.num_classes)]
    centre, axes, scale = principal_axes(codes)
    flat = (codes - centre) @ axes.T
    drawn = [{"title": "two principal directions of the codes", **plot(partial(scatter, flat, label, names), 4.4, 3.8)}]
    for title, place in neighbour_maps(codes) if codes.shape[1] > 1 else []:
        drawn.append({"title": title, **plot(partial(scatter, place, label, names), 4.4, 3.8)})
    out: dict[str, Any] = {
        "maps": drawn,
        "strips": [strip(model, centre, a, d, y) for a, d in zip(axes, scale, strict=True)],
        "histograms": None,
    }
    if model.can_sample:
        sampled = model.draw_codes(len(codes), s.seed, None if y is None else y.cpu()).cpu().double()
        with seeded(s.seed, model.device):
            drawn_of_images = model.codes_of(Images(batch.image, batch.label))[0].double()  # as samplers see them
        out["histograms"] = plot(partial(histograms, drawn_of_images, sampled), 7.4, 3.4)
    return out


def principal_axes(codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (Z,), the two leading directions (2 or 1, Z) and their standard deviations."""
    found = principal_directions(codes, min(2, len(codes) - 1, codes.shape[1]))
    return found.mean, found.axes, found.stddev


def neighbour_maps(codes: Tensor) -> list[tuple[str, Tensor]]:
    """Maps that keep neighbours together: t-SNE, and UMAP where it is installed."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(codes) - 1) / 3)
    made = TSNE(2, perplexity=perplexity, max_iter=ITERATIONS, random_state=0, init="pca").fit_transform(codes.numpy())
    found = [("t-SNE: near is alike, far means nothing", made)]
    try:
        from umap import UMAP

        found.append(("UMAP", UMAP(random_state=0).fit_transform(codes.numpy())))
    except ImportError:
        pass
    return [(title, torch.from_numpy(np.asarray(place))) for title, place in found]


def scatter(place: Tensor, label: Tensor | None, names: list[str], figure: Any, look: Look) -> None:
    axes = figure.add_subplot()
    x, y = place[:, 0].numpy(), (place[:, 1] if place.shape[1] > 1 else torch.zeros(len(place))).numpy()
    if label is None:
        axes.scatter(x, y, s=5, color=look.series[0], linewidths=0)
    else:
        shown = label.unique().tolist()
        for i, k in enumerate(shown):
            mine, (turn, colour) = (label == k).numpy(), divmod(i, len(look.series))
            axes.scatter(
                x[mine], y[mine], s=5 if not turn else 9, color=look.series[colour], linewidths=0, label=names[k],
                marker=MARKS[turn % len(MARKS)],
            )  # fmt: skip
        if len(shown) <= MOST:
            figure.legend(loc="outside right upper", frameon=False, fontsize=8, markerscale=2.5, handletextpad=0.1)
    plain_axes(axes, look)
    axes.grid(False)


def strip(model: Game, centre: Tensor, axis: Tensor, scale: Tensor, y: Tensor | None) -> dict[str, Any]:
    """What an axis means: images along it through the mean code. A conditional model is told the first image's label."""
    steps = torch.linspace(-REACH, REACH, STEPS, dtype=torch.float64)
    codes = (centre + steps[:, None] * scale * axis).float()
    told = None if y is None else y[:1].expand(STEPS, *y.shape[1:])
    return inline(grid(model.decode(codes, told).cpu(), STEPS))


def histograms(codes: Tensor, sampled: Tensor, figure: Any, look: Look) -> None:
    """Codes of images (filled) and codes that are sampled from (line), in the dimensions that vary most."""
    chosen = codes.var(0).topk(min(DIMENSIONS, codes.shape[1])).indices.sort().values.tolist()
    columns = min(4, len(chosen))
    for i, k in enumerate(chosen):
        axes = figure.add_subplot(-(-len(chosen) // columns), columns, i + 1)
        both = torch.cat([codes[:, k], sampled[:, k]])
        low, high = (float(v) for v in (both.quantile(0.002), both.quantile(0.998)))
        bins = np.linspace(low, high if high > low else low + 1, 31)
        axes.hist(codes[:, k].numpy(), bins, density=True, color=look.series[0], alpha=0.55)
        axes.hist(sampled[:, k].numpy(), bins, density=True, histtype="step", color=look.series[1], lw=1.2)
        axes.set_title(f"dimension {k + 1}", fontsize=8)
        axes.set_yticks([])
        plain_axes(axes, look)
