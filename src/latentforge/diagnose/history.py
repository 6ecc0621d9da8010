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

    def early(self, *names: str) -> float | None:
        """The median of the summed values over the first tenth of the budget, but of three rows at least; None where
        there are fewer."""
        series = self.series(*names)
        return middle([v for i, (p, v) in enumerate(series) if i < 3 or p <= 0.1])

    def recent(self, *names: str) -> float | None:
        """The same over the last twentieth."""
        return middle(self.lately(0.05, 3, *names))

    def lately(self, share: float, least: int, *names: str) -> list[float]:
        """The summed values logged over the last `share` of the budget, but `least` of them at least; none where there
        are fewer."""
        series = self.series(*names)
        count = max(least, sum(p >= self.progress - share for p, _ in series))
        return [v for _, v in series[-count:]] if len(series) >= count else []


def middle(values: list[float]) -> float | None:
    return statistics.median(values) if len(values) >= 3 else None
