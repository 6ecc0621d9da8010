"""`latentforge resume RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from latentforge.cli.flags import Place
from latentforge.errors import InputError


@click.command("resume")
@click.argument("run", type=Place())
@click.option("--epochs", type=float, help="new total budget in epochs")
@click.option("--examples", type=int, help="new total budget in images drawn")
@click.option("--minutes", type=float, help="new total budget in minutes")
@click.option("--device", help="auto, cpu, cuda or mps  [the one it was begun on]")
@click.option("--quiet", is_flag=True, help="no progress")
def command(
    run: Path, epochs: float | None, examples: int | None, minutes: float | None, device: str | None, quiet: bool
) -> None:  # fmt: skip
    """Continue a run from its last checkpoint to its budget, or to a new total."""
    from latentforge.api import keeping_images, resume
    from latentforge.distributed import rank
    from latentforge.report.page import write_report
    from latentforge.run import Run

    budget = {k: v for k, v in (("epochs", epochs), ("examples", examples), ("minutes", minutes)) if v is not None}
    if Run.open(run).finished and not budget:
        if device:
            raise InputError(f"{run} is finished, so --device has nothing to do; give a larger total to train on.")
        print(f"{run} is finished; give a larger total with --epochs, --examples or --minutes to train on.")
        return
    with keeping_images():
        resume(run, quiet=quiet, device=device, **budget)
        if rank() > 0:
            return
        print(f"run       {run}\nmodel     {run / 'model'}", flush=True)  # whatever becomes of the page
        print(f"report    {write_report(Run.open(run))}")
