"""`latentforge compress RUN`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import image_source, open_images
from latentforge.cli.tables import print_table


@click.command("compress")
@click.argument("run", type=Place())
@click.option("--out", type=Place(), help="file to write, NAME.lfz  [RUN/images.lfz]")
@click.option("--step", type=float, help="quantisation step: RMS change of pixel values (black to white = 1) per step of one "
              "latent dimension  [.03]")  # fmt: skip
@click.option("--bits-per-pixel", type=float, help="choose the smallest step whose file stays within this rate")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@image_source
def command(
    run: Path, out: Path | None, step: float | None, bits_per_pixel: float | None, as_json: bool, **source: Any
) -> None:
    """Write images as a small file of codes, rounded and entropy-coded; `latentforge decompress RUN FILE` needs the same
    model. Prints the bits per pixel and the error of the images in the file."""
    import latentforge as lf
    from latentforge.metrics.reconstruction import decibels
    from latentforge.tasks.coding import constriction
    from latentforge.tasks.compress import squared_error
    from latentforge.tasks.encode import need_encoder
    from latentforge.tasks.output import check_place

    out = out or run / "images.lfz"
    check_place(out, ".lfz")
    constriction()
    model = lf.load(run)
    need_encoder(model)
    images = open_images(run, model, **source)
    written = lf.compress(model, images, out, step, bits_per_pixel)
    error = squared_error(lf.decompress(model, out), images)
    print_table([{**asdict(written), "mse": error, "psnr_db": decibels(error)}], as_json)
