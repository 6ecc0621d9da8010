"""`latentforge embed RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from latentforge.cli.inputs import image_source, open_images


@click.command("embed")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="codes.npz")
@image_source
def command(run: Path, out: Path | None, **source: str | None) -> None:
    """Write the codes of images: `mean` and `stddev` (N, Z) float32, and `labels` where there are any."""
    import latentforge as lf
    from latentforge.tasks.encode import need_encoder
    from latentforge.tasks.output import check_place, write_arrays

    out = out or run / "codes.npz"
    check_place(out, ".npz")
    model = lf.load(run)
    need_encoder(model)
    images = open_images(run, model, **source)  # type: ignore[arg-type]
    mean, stddev = lf.embed(model, images)
    arrays = {"mean": mean.numpy(), "stddev": stddev.numpy()}
    if images.labels is not None:
        arrays["labels"] = images.labels.numpy()
    print(write_arrays(out, **arrays))
