"""`latentforge evaluate RUN`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from latentforge.cli.tables import print_table


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", help="which images  [test]")
@click.option("--seed", default=0, help="seed of the noise and the samples  [0]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def command(run: Path, split: str, seed: int, as_json: bool) -> None:
    """Measure a run on held-out images, each number beside a trivial baseline; kept in RUN/metrics.json."""
    import latentforge as lf
    from latentforge.api import data_of
    from latentforge.files import write_text
    from latentforge.report.page import read_metrics
    from latentforge.run import Run

    opened, model = Run.open(run), lf.load(run)
    rows = lf.evaluate(model, data_of(opened), split, seed)
    if not model.can_sample:
        print(f"samples are not measured: {model.name} has no prior to draw codes from; train with --sampler gmm, flow or "
              "auto", file=sys.stderr)  # fmt: skip
    kept = read_metrics(opened)
    kept[split] = {r["measure"]: {k: v for k, v in r.items() if k != "measure"} for r in rows}
    write_text(run / "metrics.json", json.dumps(kept, indent=2) + "\n")
    columns = ("measure", "value", "better", "baseline", "which", "reference", "is", "images", "sampler")
    print_table([{c: r.get(c) for c in columns} for r in rows], as_json)
