"""`latentforge augment RUN`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import image_files, open_cut
from latentforge.cli.tables import print_table
from latentforge.errors import InputError


@click.command("augment")
@click.argument("run", type=Place())
@click.option("-n", "--number", type=click.IntRange(1), help="how many samples  [1000; for an audit 10,000, or as many "
              "as there are real images]")  # fmt: skip
@click.option("--out", type=Place(), help="samples.npz, samples.parquet or a directory, which gets a "
              "folder per class  [RUN/augmented]")  # fmt: skip
@click.option("--label", help="draw this class alone: its name, or, where no name is a number, its number from 0 "
              "on")  # fmt: skip
@click.option("--even", is_flag=True, help="all classes alike  [as frequent as in training]")
@image_files("the images an exported model was trained on: named set, folder or file")
@click.option("--audit", is_flag=True, help="write nothing; train classifiers on real, synthetic and both, and compare")
@click.option("--repeats", type=click.IntRange(1), help="classifiers per row of an audit  [5]")
@click.option("--examples", type=click.IntRange(1), help="images each classifier of an audit draws  [64000]")
@click.option("--seed", default=0, help="seed of samples and classifiers  [0]")
@click.option("--json", "as_json", is_flag=True, help="print JSON: the manifest, or the rows of an audit")
def command(
    run: Path, number: int | None, out: Path | None, label: str | None, even: bool, audit: bool, repeats: int | None,
    examples: int | None, seed: int, as_json: bool, **source: Any,
) -> None:  # fmt: skip
    """Export labelled samples with a manifest, to train on beside real images: from a model that is conditioned on classes, or
    from a mixture fitted to the codes of each class. With --audit measure on held-out images whether they help a classifier;
    kept in RUN/audit.json."""
    import latentforge as lf
    from latentforge.tasks.augment import FORMATS
    from latentforge.tasks.output import check_place

    if audit and (out is not None or label is not None):
        raise InputError("--audit writes no samples and draws all classes; leave out --out and --label.")
    if not audit and (repeats or examples):
        raise InputError("--repeats and --examples are of the classifiers of an --audit; leave them out, or add it.")
    target = out or run / "augmented"
    if not audit:
        check_place(target, *FORMATS)
    model = lf.load(run)
    if audit:
        data = data_for(run, model, True, **source)
        print_audit(run, model, data, number, even, repeats or 5, examples, seed, as_json)
        return
    needed = model.condition is None and model.has_encoder
    dataset = data_for(run, model, needed, **source)
    made = lf.augment(model, target, number or 1000, data=dataset, label=label, even=even, seed=seed, run=run)
    if as_json:
        print(json.dumps(made, indent=2))
    else:
        print(f"{target}: {made['images']:,} samples of {len(made['classes'])} classes, from a {made['drawn_from']}")
    if made["left_out"]:
        print(f"left out, with too few training images to draw from: {', '.join(made['left_out'])}", file=sys.stderr)
    if target.suffix == "" and 0 in made["counts"].values():
        print("a folder without images is no class: read as --data, the classes that have samples are numbered anew; "
              ".npz and .parquet keep the numbers", file=sys.stderr)  # fmt: skip


def data_for(run: Path, model: Any, needed: bool, data: str | None, **source: Any) -> Any:
    """What the model was trained on; None where that is not to be had and not needed."""
    from latentforge.api import data_of
    from latentforge.run import Run

    if data is not None:
        return open_cut(run, model, data, others=False, **source)
    if (run / "config.yaml").is_file():
        try:
            return data_of(Run.open(run))
        except InputError as error:
            if needed:
                raise
            print(f"class names are those the model keeps: {error}", file=sys.stderr)
            return None
    if needed:
        raise InputError(f"{run} is an exported model and carries no data; name its images with --data.")
    return None


SHOWN = ("trained on", "accuracy", "low", "high", "difference", "difference low", "difference high",
         "balanced accuracy")  # fmt: skip


def print_audit(
    run: Path, model: Any, data: Any, number: int | None, even: bool, repeats: int, examples: int | None, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    from latentforge.files import write_text
    from latentforge.tasks.audit import EXAMPLES, audit, verdict

    rows = audit(model, data, synthetic=number, repeats=repeats, examples=examples or EXAMPLES, seed=seed, even=even)
    found = {
        "rows": rows, "verdict": verdict(rows), "seed": seed, "examples": examples or EXAMPLES, "even": even,
        "images": data.source, "as trained on": data.fingerprint == model.data_fingerprint,
    }  # fmt: skip
    print_table(rows if as_json else [{k: r[k] for k in SHOWN} for r in rows], as_json)
    for line in found["verdict"]:  # type: ignore[attr-defined]
        print(line, file=sys.stderr if as_json else sys.stdout)
    try:
        write_text(run / "audit.json", json.dumps(found, indent=2) + "\n")
    except OSError as error:
        print(f"{run / 'audit.json'} was not written: {error.strerror}", file=sys.stderr)
