"""The first images of a set with their labels under them."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.report.grid import picture, to_uint8
from latentforge.report.points import figure_picture


def labelled_grid(
    images: Images, classes: list[str] | None, descriptors: list[str] | None = None, n: int = 25
) -> Image.Image:
    """A 5-column figure of the first `n` images; of descriptors the first four are written out."""
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
            text = caption(batch.label[i], classes, descriptors)
            axes.set_title(text, fontsize=7 if "\n" in text else 9, parse_math=False)
    figure.tight_layout()
    return figure_picture(figure)


def caption(label: Tensor, classes: list[str] | None, descriptors: list[str] | None) -> str:
    """The name of a class (), which -1 is not, or descriptors (D,) two to a line."""
    if label.ndim == 0:
        if label < 0:
            return "no label"
        return classes[int(label)] if classes else str(int(label))
    names = descriptors or [f"d{i}" for i in range(len(label))]
    told = [f"{name} {float(value):.3g}" for name, value in zip(names[:4], label, strict=False)]
    lines = [", ".join(told[i : i + 2]) for i in range(0, len(told), 2)]
    return "\n".join(lines) + (" …" if len(label) > 4 else "")
