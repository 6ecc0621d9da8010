"""`latentforge report RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from latentforge.cli.flags import Place


@click.command("report")
@click.argument("run", type=Place())
def command(run: Path) -> None:
    """Write RUN/report.html again from what the run has recorded, finished or not."""
    from latentforge.report.page import write_report
    from latentforge.run import Run

    print(write_report(Run.open(run)))
