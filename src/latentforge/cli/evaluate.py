"""`latentforge evaluate RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.tables import number, print_table
from latentforge.report.words import HEADINGS


@click.command("evaluate")
@click.argument("run", type=Place(), required=False)
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", help="which images  [test]")
@click.option("--metrics", help="all, or names from --list  [the quick ones]")
@click.option(
    "--features",
    default="auto",
    help="feature space for comparing samples: auto, digits, labels, self, pca50, inception  [auto]",
)
@click.option("--repeats", type=click.IntRange(0), default=16, help="half-samples per interval, 0 for none  [16]")
@click.option(
    "--binarise",
    type=click.Choice(["dynamic", "static", "threshold", "grey"]),
    default="dynamic",
    help="what nll does to grey values  [dynamic]",
)
@click.option(
    "--sampler",
    type=click.Choice(["prior", "gmm", "flow", "auto"]),
    help="draw samples from this density instead of the run's own, fitted for the purpose; printed, not kept",
)
@click.option("--seed", default=0, help="seed of the noise and the samples  [0]")
@click.option("--list", "show", is_flag=True, help="list the metrics and stop")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def command(
    run: Path | None, split: str, metrics: str | None, features: str, repeats: int, binarise: str, sampler: Any,
    seed: int, show: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure a run on held-out images, each number with its 95 % interval beside a trivial baseline; kept in
    RUN/metrics.json, unless another sampler is asked for or the run is not finished."""
    import latentforge as lf
    from latentforge.api import data_of
    from latentforge.clock import mix, seeded
    from latentforge.distributed import sharing_work
    from latentforge.errors import RunError
    from latentforge.run import Run
    from latentforge.samplers import sampler_for
    from latentforge.tasks.evaluate import METRICS, QUICK

    if show:
        rows = [{"metrics": k, "what": m.what, "": "" if m.quick else "when named"} for k, m in METRICS.items()]
        print_table(rows, as_json)
        return
    if run is None:
        raise click.UsageError("Missing argument 'RUN'.", click.get_current_context())
    chosen = QUICK if metrics is None else tuple(metrics.split(","))
    opened, without = Run.open(run), list[str]()
    stamp = opened.model_stamp
    with sharing_work() as first:
        model, data = lf.load(run), data_of(opened)
        if sampler:
            model.sampler_kind, model.sampler = sampler_for(model, sampler), None
            with seeded(mix(seed, 0xF17), model.device):  # it draws codes of the images
                model.fit_sampler(data.train, data.validation)
        rows = lf.evaluate(model, data, split, seed, metrics=chosen, features=tuple(features.split(",")),
                           repeats=repeats, binarise=binarise, left_out=without)  # fmt: skip
    if not first:
        return
    if model.has_decoder and not model.can_sample:
        print(f"samples are not measured: {model.name} has no prior to draw codes from; evaluate with --sampler gmm, flow "
              "or auto, or train with it", file=sys.stderr)  # fmt: skip
    for name in [] if "all" in chosen or metrics is None else without:
        print(f"not measured: {name}, which needs {METRICS[name].needs}", file=sys.stderr)
    print_table(rows if as_json else [for_people(r) for r in rows], as_json)
    if not as_json:
        for text in dict.fromkeys(r[k] for k in ("features", "note") for r in rows if k in r):
            print(text)
    if sampler:
        return
    if stamp is None:
        print("not kept: the run is not finished", file=sys.stderr)
        return
    try:
        if not opened.keep_measures(split, rows, stamp):
            print("not kept: the run has changed meanwhile; evaluate it again", file=sys.stderr)
    except OSError as error:
        raise RunError(f"the numbers were not kept: {run} cannot be written ({error.strerror or error}).") from None


def for_people(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit a terminal."""
    interval = f"{number(row['low'])} to {number(row['high'])}" if "low" in row else ""
    columns = {"measure": row["measure"], "value": row["value"], "95 % interval": interval}
    others = ("better", "baseline", "which", "reference", "is", "images", "sampler")
    return columns | {HEADINGS.get(c, c): row.get(c) for c in others}
