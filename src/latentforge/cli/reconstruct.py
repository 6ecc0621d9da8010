"""`latentforge reconstruct RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import image_source, open_images


@click.command("reconstruct")
@click.argument("run", type=Place())
@click.option("-n", "--number", default=32, type=click.IntRange(1), help="how many images  [32]")
@click.option("--out", type=Place(), help="pairs.png, arrays.npz or a directory  [RUN/reconstructions.png]")
@image_source
def command(run: Path, number: int, out: Path | None, **source: Any) -> None:
    """Encode images and decode them again; a PNG shows pairs, the original left."""
    import torch

    import latentforge as lf
    from latentforge.data.modes import is_points
    from latentforge.report.grid import save, to_numbers
    from latentforge.report.points import draw_pairs
    from latentforge.tasks.encode import need_encoder
    from latentforge.tasks.output import check_place, write_arrays, write_images, writing

    out = out or run / "reconstructions.png"
    check_place(out, ".png", ".npz", "")
    model = lf.load(run)
    need_encoder(model)
    images = open_images(run, model, **source)
    chosen = images[images.spread(number)]
    originals, rebuilt = chosen.image, model.reconstruct(chosen.image, model.labels_of(chosen)).cpu()
    mse = (rebuilt - originals).square().mean().item()
    points = is_points(model.image_shape)
    if points:
        check_place(out, ".png", ".npz")
    if out.suffix.lower() == ".npz":
        text = write_arrays(out, images=to_numbers(originals), reconstructions=to_numbers(rebuilt))
    elif points:
        with writing(out):
            save(draw_pairs(originals, rebuilt, None), out)
        text = f"{out}: {len(originals)} points and their reconstructions"
    elif out.suffix.lower() == ".png":
        text = write_images(torch.stack([originals, rebuilt], 1).flatten(0, 1), out, columns=8)
    else:
        text = write_images(rebuilt, out)
    print(f"{text}; mean squared error {mse:.5f}")
