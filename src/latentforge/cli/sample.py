"""`latentforge sample RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import names_of
from latentforge.errors import InputError


@click.command("sample")
@click.argument("run", type=Place())
@click.option("-n", "--number", default=64, type=click.IntRange(1), help="how many images  [64]")
@click.option("--out", type=Place(), help="grid.png, images.npz or a directory of PNG files  [RUN/samples.png]")
@click.option("--label", help="what to draw with a conditional model: a class by its name (or, where no name is a "
              "number, its number from 0 on), or a descriptor as .5,.5,.3,0; none: unconditional  [as frequent as in "
              "training]")  # fmt: skip
@click.option("--seed", default=0, help="seed of the codes; the same seed gives the same images  [0]")
def command(run: Path, number: int, out: Path | None, label: str | None, seed: int) -> None:
    """Draw new images from a trained model."""
    import latentforge as lf
    from latentforge.tasks.output import check_place, write_images

    out = out or run / "samples.png"
    check_place(out, ".png", ".npz", "")
    model = lf.load(run)
    y = model.draw_labels(number, None if label is None else asked(model, label), seed)
    print(write_images(model.sample(number, label=y, seed=seed), out, labels=y))


def asked(model: Any, label: str) -> str | int | list[float]:
    """--label as the number of a class, as the numbers of a descriptor, or "none"."""
    from latentforge.nets.condition import number_of

    text, names = label.strip(), names_of(model)
    if model.condition is None:  # refused when it comes to drawing
        return text
    if names and (text in names or text not in ("none", "-1")):
        return number_of(text, names, "class")
    try:
        if text == "none":
            return text
        return int(text) if text.lstrip("-").isdigit() else [float(v) for v in text.split(",")]
    except ValueError:
        raise InputError(f"--label {label}: give a descriptor as .5,.5,.3,0, or none.") from None
