"""Progress on the terminal: a live line where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from typing import Any

POSITION = {"round", "examples", "epoch", "progress", "seconds", "bad_steps"}  # of a row of statistics in its run


class Display:
    """A context around training. Writes to stderr; warnings alone when `quiet`, nothing where `silent`."""

    def __init__(self, quiet: bool = False, silent: bool = False):
        self.quiet, self.silent = quiet or silent, silent
        self.live: Any = None
        self.task: Any = None
        self.printed = 0.0
        self.before: tuple[float, int] = (0.0, 0)

    def __enter__(self) -> Display:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = [BarColumn(24), TextColumn("{task.percentage:3.0f}%"), TextColumn("{task.description}")]
            self.live = Progress(*columns, console=Console(stderr=True))
            self.live.start()
            self.task = self.live.add_task("starting", total=1.0)
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def update(self, row: dict[str, Any], examples: int | None, minutes: float | None) -> None:
        """Show a line of statistics."""
        if self.quiet:
            return
        seconds, seen = self.before
        rate = (row["examples"] - seen) / max(row["seconds"] - seconds, 1e-9)
        self.before = (row["seconds"], row["examples"])
        left = 60 * minutes - row["seconds"] if minutes else ((examples or 0) - row["examples"]) / max(rate, 1e-9)
        losses = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k not in POSITION and "/" not in k)
        bad = f"  bad steps {row['bad_steps']}" if row["bad_steps"] else ""
        text = f"epoch {row['epoch']:.1f}  {rate:,.0f} img/s  {duration(max(left, 0))} left  {losses}{bad}"
        if self.live:
            self.live.update(self.task, completed=row["progress"], description=text)
        elif time.monotonic() - self.printed > 5 or row["progress"] >= 1:
            self.printed = time.monotonic()
            print(f"{100 * row['progress']:3.0f}%  {text}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Something the user should know."""
        if not self.quiet:
            print(f"note: {text}", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A warning that stays on the screen."""
        if self.silent:
            return
        if self.live:
            self.live.console.print(f"warning: {text}", style="yellow", highlight=False)
        else:
            print(f"warning: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """85 -> '1:25'."""
    m, s = divmod(int(seconds), 60)
    return f"{m // 60}:{m % 60:02d}:{s:02d}" if m >= 60 else f"{m}:{s:02d}"
