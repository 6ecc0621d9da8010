"""`latentforge sample RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from latentforge.errors import InputError


@click.command("sample")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-n", "--number", default=64, type=click.IntRange(1), help="how many images  [64]")
@click.option("--out", type=click.Path(path_type=Path), help="grid.png, images.npz or a directory of PNG files")
@click.option("--label", help="what to draw, where the model was told labels: 3, or the numbers of a descriptor as "
              ".5,.5,.3,0; none tells it nothing  [as frequent as in training]")  # fmt: skip
@click.option("--seed", default=0, help="seed of the codes; the same seed gives the same images  [0]")
def command(run: Path, number: int, out: Path | None, label: str | None, seed: int) -> None:
    """Draw new images from a trained model."""
    import latentforge as lf
    from latentforge.tasks.output import check_place, write_images

    out = out or run / "samples.png"
    check_place(out, ".png", ".npz", "")
    model = lf.load(run)
    y = model.draw_labels(number, None if label is None else asked(label), seed)
    print(write_images(model.sample(number, label=y, seed=seed), out, labels=y))


def asked(label: str) -> str | int | list[float]:
    """--label as a class, as the numbers of a descriptor, or "none"."""
    text = label.strip()
    try:
        if text == "none":
            return text
        return int(text) if text.lstrip("-").isdigit() else [float(v) for v in text.split(",")]
    except ValueError:
        raise InputError(f"--label {label}: give a class as a number, a descriptor as .5,.5,.3,0, or none.") from None
