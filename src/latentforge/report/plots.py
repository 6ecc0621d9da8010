"""Plots for pages: drawn twice, for light and for dark ones, as data: URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

WIDEST = 1400  # pixels of an inlined picture; larger ones are shrunk
HEAVIEST = 2**20  # bytes of a PNG; photographs that take more become a JPEG
COLOURS = 128  # of a plot, as a palette, which makes its file small
SERIES = {  # colours that hold on white and on black
    False: ("#2f6db3", "#c9621c", "#2c8a5b", "#8a4fa8", "#a8892b", "#b3446c", "#4b8f9e", "#6b6f76", "#7a5c3e", "#5a7d2a"),
    True: ("#6ea8e6", "#f0955a", "#5fc492", "#c08fdd", "#d9bd62", "#e58aac", "#84c9d6", "#a9aeb6", "#c9a27d", "#a5cf6d"),
}  # fmt: skip


class Look(NamedTuple):
    """The colours of one drawing."""

    ink: str
    line: str
    series: tuple[str, ...]


def plot(draw: Callable[[Any, Look], None], width: float = 3.7, height: float = 2.4) -> dict[str, str]:
    """`light` and `dark` versions of what `draw(figure, look)` puts on a figure of so many inches."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = {}
    for name, dark in (("light", False), ("dark", True)):
        ink, line = ("#b9bec6", "#3b4048") if dark else ("#565b63", "#dddfe3")
        style: Any = {
            "text.parse_math": False, "font.size": 9.0, "text.color": ink, "axes.labelcolor": ink, "xtick.color": ink,
            "ytick.color": ink, "axes.edgecolor": line, "axes.facecolor": "none",
        }  # fmt: skip
        with matplotlib.rc_context(style):
            figure = Figure(figsize=(width, height), dpi=172, layout="constrained", facecolor="none")
            canvas = FigureCanvasAgg(figure)
            draw(figure, Look(ink, line, SERIES[dark]))
            canvas.draw()  # once, where savefig would lay it out and draw it twice
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba()))
        few = pixels.quantize(COLOURS, method=Image.Quantize.FASTOCTREE)  # which keeps transparency
        buffer = io.BytesIO()
        few.save(buffer, format="PNG", optimize=True)
        out[name] = data_uri(buffer.getvalue())
    return out


def plain_axes(axes: Any, look: Look) -> None:
    """A grid of thin lines, no frame."""
    axes.grid(axis="y", color=look.line, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)


def legend(figure: Any, axes: Any) -> None:
    """Above the axes, where there is more than one line."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        columns = min(len(handles), 2)
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=8)


def inline(image: Image.Image) -> dict[str, Any]:
    """A picture as a data: URI with its size."""
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    buffer, kind = io.BytesIO(), "png"
    image.save(buffer, format="PNG", optimize=True)
    if image.mode == "RGB" and buffer.tell() > HEAVIEST:
        buffer, kind = io.BytesIO(), "jpeg"
        image.save(buffer, format="JPEG", quality=90)
    return {"uri": data_uri(buffer.getvalue(), kind), "width": image.width, "height": image.height}


def data_uri(picture: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
