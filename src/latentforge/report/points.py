"""Pictures of points in the plane, which as images of 1 x 1 pixel would show nothing."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.data.modes import Modes

SHOWN = 2000  # points in a picture
PAIRS = 300  # reconstructions in a picture
GREY, BLUE, ORANGE = "#b4b8be", "#2f6db3", "#c9621c"


def draw_samples(samples: Tensor, train: Images, modes: Modes | None) -> Image.Image:
    """Samples (N, 2, 1, 1) over as many of the training points, in grey."""
    figure, axes = _square(modes)
    axes.plot(*_xy(train[train.spread(len(samples))].image, modes), "o", ms=2.5, mew=0, color=GREY)
    axes.plot(*_xy(samples, modes), "o", ms=2, mew=0, color=BLUE, alpha=0.7)
    return figure_picture(figure)


def draw_pairs(originals: Tensor, rebuilt: Tensor, modes: Modes | None) -> Image.Image:
    """Points (N, 2, 1, 1) in grey and their reconstructions, each joined to its own by a thin line."""
    figure, axes = _square(modes)
    (x, y), (u, v) = _xy(originals, modes), _xy(rebuilt, modes)
    axes.plot([x, u], [y, v], lw=0.4, color=BLUE, alpha=0.6)
    axes.plot(x, y, "o", ms=3, mew=0, color=GREY)
    axes.plot(u, v, "o", ms=2.5, mew=0, color=ORANGE)
    return figure_picture(figure)


def draw_labelled(images: Images, modes: Modes | None, n: int = SHOWN) -> Image.Image:
    """At most `n` points spread over the split, a colour per class where there are classes."""
    figure, axes = _square(modes)
    batch = images[images.spread(n)]
    classes = batch.label is not None and batch.label.ndim == 1
    colours: dict[str, Any] = {"c": batch.label, "cmap": "turbo"} if classes else {"c": BLUE}
    axes.scatter(*_xy(batch.image, modes), s=5, lw=0, **colours)
    return figure_picture(figure)


def _xy(images: Tensor, modes: Modes | None) -> Any:
    """Two arrays (N,), in the units of `modes`, else of pixels."""
    return (images.detach().cpu().flatten(1) if modes is None else modes.to_units(images)).T.numpy()


def _square(modes: Modes | None) -> tuple[Any, Any]:
    """A figure and its axes over everything a pixel can be, the same at every moment of a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    low, high = (0.0, 1.0) if modes is None else (-modes.margin, modes.margin)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.tick_params(labelsize=8)
    return figure, axes


def figure_picture(figure: Any) -> Image.Image:
    """A figure of matplotlib as an image in RGB."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")
