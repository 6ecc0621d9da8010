"""`latentforge decompress RUN FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from latentforge.cli.flags import Place
from latentforge.errors import InputError


@click.command("decompress")
@click.argument("run", type=Place())
@click.argument("file", type=Place())
@click.option("--out", type=Place(), help="grid.png, images.npz or a directory  [FILE-decoded.npz]")
def command(run: Path, file: Path, out: Path | None) -> None:
    """Write the images of a file that `latentforge compress` wrote with the same model."""
    import latentforge as lf
    from latentforge.tasks.compress import decoded
    from latentforge.tasks.output import check_place, write_images

    if not file.is_file():
        raise InputError(f"{file} is no file; give one that 'latentforge compress' wrote.")
    out = out or file.with_name(f"{file.stem}-decoded.npz")
    check_place(out, ".png", ".npz", "")
    images, labels = decoded(lf.load(run), file)
    print(write_images(images, out, labels=labels))
