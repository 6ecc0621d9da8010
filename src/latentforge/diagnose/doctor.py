"""The doctor: fed every row of a run's statistics, it names what goes wrong, once each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from latentforge.diagnose.history import History
from latentforge.diagnose.rules import RULES, fits
from latentforge.game import Game

COLLAPSE = "mode collapse"


@dataclass(frozen=True)
class Finding:
    """What a rule saw."""

    rule: str
    what: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what} ({self.evidence}); {self.remedy}"

    def row(self) -> dict[str, str]:
        return {"finding": self.rule, "evidence": self.evidence, "remedy": self.remedy}


class Doctor:
    """Rules over the stream of a run, but those that do not worry the model. Remedies are those that fit it."""

    def __init__(
        self, loss: str | None = None, unworried: Iterable[str] = (), model: Game | None = None, precision: str = ""
    ) -> None:  # fmt: skip
        self.history, self.model, self.precision = History(loss), model, precision
        self.known = set(unworried)

    def recall(self, rows: list[dict[str, Any]], examples: int | None = None, minutes: float | None = None) -> None:
        """Take up the statistics of a run that goes on: what was found is not told again. Progress is that towards the budget
        of now, which may be a larger one."""
        for row in rows:
            if "finding" in row:
                self.known.add(row["finding"])
                continue
            done = (
                row["examples"] / examples
                if examples
                else row["seconds"] / (60 * minutes)
                if minutes
                else row["progress"]
            )
            self.history.see(row | {"progress": min(1.0, done)})

    def fits(self, remedy: str) -> bool:
        if self.precision == "fp32" and "--precision fp32" in remedy:
            return False
        return self.model is None or fits(remedy, self.model)

    def see(self, row: dict[str, Any]) -> list[Finding]:
        """Findings that this row brings."""
        self.history.see(row)
        out = []
        for name, rule in RULES.items():
            if row["round"] >= rule.young and name not in self.known and (evidence := rule.see(self.history)):
                self.known.add(name)
                out.append(Finding(name, rule.what, evidence, rule.remedy(self.fits)))
        return out
