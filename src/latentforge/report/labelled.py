"""The first images of a set with their labels under them."""

from __future__ import annotations

import io

import torch
from PIL import Image

from latentforge.data.batch import Images
from latentforge.report.grid import picture, to_uint8


def labelled_grid(images: Images, classes: list[str] | None, n: int = 25) -> Image.Image:
    """A 5-column figure of the first `n` images."""
    from matplotlib.figure import Figure

    batch = images[torch.arange(min(n, len(images)))]
    rows = -(-len(batch) // 5)
    figure = Figure(figsize=(7.5, 1.6 * rows), dpi=110)
    for i, array in enumerate(to_uint8(batch.image)):
        axes = figure.add_subplot(rows, 5, i + 1)
        shown = picture(array)
        axes.imshow(shown.convert("RGBA"), interpolation="nearest")
        axes.axis("off")
        if batch.label is not None:
            k = int(batch.label[i])
            axes.set_title(classes[k] if classes else str(k), fontsize=9)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer)
