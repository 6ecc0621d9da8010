"""The stream of a run as rules read it: logged values and signs, by progress."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import Any

first = itemgetter(0)


COSTS = ("critic_real", "critic_fake")
GENERATORS = ("generator", "fool")  # names under which a generator's cost is logged
GRADIENT = "gradient/"  # norms of steps that were taken; others are counted as bad steps
MOVED = (f"{GRADIENT}generator", f"{GRADIENT}decoder")
SERIES = (COSTS, *((name,) for name in (*GENERATORS, *MOVED)))  # what rules ask for over time


class History:
    """What rules need of the rows of statistics, in the order they were written: there are some thousands."""

    def __init__(self, loss: str | None = None) -> None:
        self.loss = loss  # what the critic descends, None where there is none
        self.progress, self.bad_steps = 0.0, 0
        self.gradients: dict[str, float] = {}  # the last norms
        self.signs: dict[str, list[float]] = {}
        self.columns: dict[tuple[str, ...], list[tuple[float, float]]] = {names: [] for names in SERIES}

    def see(self, row: dict[str, Any]) -> None:
        row = {k: v for k, v in row.items() if v is not None}  # of a run taken up: it was not finite
        self.progress, self.bad_steps = row["progress"], row.get("bad_steps", 0)
        self.gradients |= {k: v for k, v in row.items() if k.startswith(GRADIENT)}
        for k, v in row.items():
            if k.startswith("sign/") and row["round"] > 0:
                self.signs.setdefault(k[5:], []).append(v)
        for names, column in self.columns.items():
            if all(n in row for n in names):
                column.append((row["progress"], sum(row[n] for n in names)))

    def sign(self, name: str, count: int = 2) -> list[float] | None:
        """The last `count` values of a sign, newest last, those before any training left out; None where there are
        fewer."""
        found = self.signs.get(name, [])
        return found[-count:] if len(found) >= count else None

    def series(self, *names: str) -> list[tuple[float, float]]:
        """(progress, sum of the named values) of every row that has them all; `names` is one of `SERIES`."""
        return self.columns[names]

    def early(self, *names: str) -> float | None:
        """The median of the summed values over the first tenth of the budget, but of three rows at least; None where
        there are fewer."""
        series = self.series(*names)
        return middle([v for _, v in series[: max(3, bisect_right(series, 0.1, key=first))]])

    def recent(self, *names: str) -> float | None:
        """The same over the last twentieth."""
        return middle(self.lately(0.05, 3, *names))

    def lately(self, share: float, least: int, *names: str) -> list[float]:
        """The summed values logged over the last `share` of the budget, but `least` of them at least; none where there
        are fewer."""
        series = self.series(*names)
        count = max(least, len(series) - bisect_left(series, self.progress - share, key=first))
        return [v for _, v in series[-count:]] if len(series) >= count else []


def middle(values: list[float]) -> float | None:
    return statistics.median(values) if len(values) >= 3 else None
