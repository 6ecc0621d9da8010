"""`latentforge finetune RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import image_files, open_dataset
from latentforge.cli.tables import number, print_table
from latentforge.errors import InputError


@click.command("finetune")
@click.argument("run", type=Place())
@click.option("--labels", help="how many labelled training images to use, one number or several  [100,1000; fewer "
              "where there are fewer]")  # fmt: skip
@click.option("--draws", default=5, type=click.IntRange(2), help="random choices of the labelled images; mean and interval "
              "are over them  [5]")  # fmt: skip
@click.option("--part", default="auto", type=click.Choice(["auto", "encoder", "critic"]), help="network the classifier "
              "starts from  [auto]")  # fmt: skip
@click.option("--steps", default=500, type=click.IntRange(1), help="training steps, on batches of 100 images  [500]")
@click.option("--split", default="test", type=click.Choice(["validation", "test"]), help="images to measure on  [test]")
@image_files("other labelled images: named set, folder or file  [the run's own data]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def command(
    run: Path, labels: str | None, draws: int, part: str, steps: int, split: str, as_json: bool, **source: Any
) -> None:
    """Start a classifier from a run's encoder or critic, and measure what that gains over random weights: errors on held-out
    images, mean and 95 % interval over choices of the labelled images. In Python, lf.finetune gives the classifier itself."""
    import latentforge as lf
    from latentforge.tasks.finetune import gain, pick_part

    try:
        counts = [int(n) for n in (labels or "100,1000").split(",")]
    except ValueError:
        raise InputError(f"--labels {str(labels)[:40]} is not a list of whole numbers, as in 100,1000.") from None
    model = lf.load(run)
    dataset = open_dataset(run, model, **source)
    pick_part(model, part)
    known = 0 if dataset.train.labels is None else len(dataset.train.labelled())
    if labels is None:
        counts = [n for n in counts if n <= known] or [known]
    elif max(counts) > known:
        raise InputError(f"--labels {max(counts)}: {dataset.source} has {known:,} labelled training images.")
    rows = [gain(model, dataset, n, draws=draws, split=split, part=part, steps=steps) for n in counts]
    print_table(rows if as_json else [for_people(r) for r in rows], as_json)


def for_people(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit a terminal."""
    shown = {"labels": row["labels"], "part": row["part"]}
    for name, title in (("pretrained", "error"), ("random", "from random weights"), ("gain", "gain")):
        low, high = number(row[f"{name}_low"]), number(row[f"{name}_high"])
        shown[title] = f"{number(row[name])} ({low} to {high})"
    return shown
