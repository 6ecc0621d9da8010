"""The stream of a run as rules read it: logged values and signs, by progress."""

from __future__ import annotations

import statistics
from typing import Any


class History:
    """Rows of statistics in the order they were written."""

    def __init__(self, loss: str | None = None) -> None:
        self.loss = loss  # what the critic descends, None where there is none
        self.rows: list[dict[str, Any]] = []

    def see(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    @property
    def progress(self) -> float:
        return self.rows[-1]["progress"] if self.rows else 0.0

    @property
    def bad_steps(self) -> int:
        return self.rows[-1].get("bad_steps", 0) if self.rows else 0

    def sign(self, name: str, count: int = 2) -> list[float] | None:
        """The last `count` values of a sign, newest last, those before any training left out; None where there are
        fewer."""
        found = [r[f"sign/{name}"] for r in self.rows if r["round"] > 0 and f"sign/{name}" in r]
        return found[-count:] if len(found) >= count else None

    def series(self, *names: str) -> list[tuple[float, float]]:
        """(progress, sum of the named values) of every row that has them all."""
        return [(r["progress"], sum(r[n] for n in names)) for r in self.rows if all(n in r for n in names)]

    def median(self, since: float, until: float, *names: str) -> float | None:
        """Of the summed values logged between two shares of the budget; None for fewer than three."""
        found = [v for p, v in self.series(*names) if since <= p <= until]
        return statistics.median(found) if len(found) >= 3 else None

    def recent(self, *names: str, share: float = 0.05) -> float | None:
        """The median over the last `share` of the budget."""
        return self.median(self.progress - share, self.progress, *names)
