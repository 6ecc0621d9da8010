"""`latentforge data`."""

from __future__ import annotations

from pathlib import Path

import click

from latentforge.cli.flags import Place
from latentforge.cli.tables import print_table


@click.command("data")
@click.argument("source", required=False)
@click.option("--data-dir", help="where named sets are looked for first")
@click.option("--image-size", help="crop and resize: 64 or 30x46")
@click.option("--channels", type=click.IntRange(1, 4), help="force the channels")
@click.option("--skip-bad", is_flag=True, help="go on without images that cannot be read")
@click.option(
    "--preview",
    type=Place(),
    help="draw the first 25 images with their labels, or 2,000 points, to this PNG",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def command(source: str | None, data_dir: str | None, image_size: str | None, channels: int | None, skip_bad: bool,
            preview: Path | None, as_json: bool) -> None:  # fmt: skip
    """Show which data sets are available where; with SOURCE, read that set, folder or file and say what is in it."""
    if source is None:
        from latentforge.data.named import available

        rows = [
            {"set": r.name, "what it is": r.what, "images": r.images, "shape (C, H, W)": by(r.shape), "where": r.found}
            for r in available(data_dir)
        ]
        print_table(rows, as_json)
        return
    from latentforge.data import open_data
    from latentforge.data.modes import is_points
    from latentforge.errors import InputError

    if preview is not None and preview.suffix.lower() != ".png":
        raise InputError(f"--preview {preview}: give a name that ends in .png.")
    found = open_data(source, data_dir=data_dir, image_size=image_size, channels=channels, skip_bad=skip_bad)
    points = is_points(found.image_shape)
    if preview is not None:
        from latentforge.report.grid import save
        from latentforge.report.labelled import labelled_grid
        from latentforge.report.points import SHOWN, draw_labelled
        from latentforge.tasks.output import writing

        with writing(preview, "--preview"):
            if points:
                save(draw_labelled(found.train, found.modes), preview)
            else:
                save(labelled_grid(found.train, found.classes, found.descriptors), preview)
    row = {
        "set": found.name, "images": f"{len(found.train)} + {len(found.validation)} + {len(found.test)}",
        "shape (C, H, W)": by(found.image_shape), "classes": found.num_classes or "none",
        "descriptors": ", ".join(found.descriptors or []) or "none", "from": found.source,
    }  # fmt: skip
    print_table([row], as_json)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    if preview is not None:
        what = "training points spread over the set" if points else "first training images"
        click.echo(f"{preview}: {min(SHOWN if points else 25, len(found.train)):,} {what}", err=True)


def by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
