"""`latentforge interpolate RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import image_source, open_images
from latentforge.errors import InputError


@click.command("interpolate")
@click.argument("run", type=Place())
@click.option("-n", "--number", default=8, type=click.IntRange(1), help="how many interpolations  [8]")
@click.option("--steps", default=10, type=click.IntRange(2), help="images per interpolation, both ends included  [10]")
@click.option("--path", type=click.Choice(["line", "sphere"]), default="line", help="straight line, or great circle "
              "(slerp), between the two codes  [line]")  # fmt: skip
@click.option("--seed", default=0, help="seed of the choice of ends  [0]")
@click.option("--out", type=Place(), help="sheet.png, images.npz or a directory  [RUN/interpolations.png]")
@image_source
def command(run: Path, number: int, steps: int, path: str, seed: int, out: Path | None, **source: Any) -> None:
    """Interpolate between the codes of pairs of images; between sampled codes where the model has no encoder. A conditional
    model is given the label of the first of each pair."""
    import torch

    import latentforge as lf
    from latentforge.data import Images
    from latentforge.game import generator_of
    from latentforge.tasks.output import check_place, write_images

    out = out or run / "interpolations.png"
    check_place(out, ".png", ".npz", "")
    model = lf.load(run)
    if model.has_encoder:
        images = open_images(run, model, **source)
        if len(images) < 2:
            raise InputError(
                "an interpolation needs two images, and there is one; choose more with --split all or --data."
            )
        generator = generator_of(seed, 0x1A7E)
        first = torch.randint(len(images), (number,), generator=generator)
        step = 1 + torch.randint(len(images) - 1, (number,), generator=generator)  # to another image
        ends = images[torch.cat([first, (first + step) % len(images)])]
        codes, y = lf.embed(model, Images(ends.image, ends.label))[0], model.told_with(ends)
    elif source["data"] is not None:
        raise InputError(f"{model.name} has no encoder, so it interpolates between sampled codes; leave out --data.")
    else:
        y = model.draw_labels(2 * number, seed=seed)
        codes = model.draw_codes(2 * number, seed, y)
    walks = lf.interpolate(model, codes[:number], codes[number:], steps, path, None if y is None else y[:number])
    print(write_images(walks.flatten(0, 1), out, columns=steps))
