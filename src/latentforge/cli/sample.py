"""`latentforge sample RUN`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("sample")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-n", "--number", default=64, type=click.IntRange(1), help="how many images  [64]")
@click.option("--out", type=click.Path(path_type=Path), help="grid.png, images.npz or a directory of PNG files")
@click.option("--seed", default=0, help="seed of the codes; the same seed gives the same images  [0]")
def command(run: Path, number: int, out: Path | None, seed: int) -> None:
    """Draw new images from a trained model."""
    import latentforge as lf
    from latentforge.tasks.output import check_place, write_images

    out = out or run / "samples.png"
    check_place(out, ".png", ".npz", "")
    model = lf.load(run)
    print(write_images(model.sample(number, seed=seed), out))
