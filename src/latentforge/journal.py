"""What a run tells about itself: statistics, previews, findings, TensorBoard, progress. A disk that cannot be written is a
warning here; training goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentforge.data.dataset import Dataset
from latentforge.diagnose.doctor import COLLAPSE, Doctor, Finding
from latentforge.diagnose.history import GRADIENT
from latentforge.display import POSITION, Display
from latentforge.errors import Collapsed, InputError, RunError
from latentforge.game import Game
from latentforge.preview import write_previews
from latentforge.run import Run


def summary_writer() -> Any:
    """TensorBoard's writer; InputError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("--tensorboard needs the extra: pip install 'latentforge[tensorboard]'.") from None
    return SummaryWriter


def mean_of(name: str, values: Tensor) -> Tensor:
    return values[values.isfinite()].mean() if name.startswith(GRADIENT) else values.mean()


class Journal:
    """Collects what rounds log and writes a row of means when asked. Writes nothing without a run."""

    def __init__(self, quiet: bool, silent: bool = False):
        self.display = Display(quiet, silent)
        self.run: Run | None = None
        self.board: Any = None
        self.values: dict[str, list[Tensor]] = {}
        self.previewed = -1  # round of the last preview
        self.failing: set[str] = set()  # what could not be written the last time
        self.doctor, self.findings = Doctor(), list[Finding]()

    def open(
        self, run: Run | None, tensorboard: bool, model: Game, precision: str, examples: int | None, minutes: float | None
    ) -> None:  # fmt: skip
        """Begin writing to `run` what training this model in `precision` logs, with a budget of `examples` or `minutes`."""
        self.run, self.doctor = run, Doctor(getattr(model, "loss", None), model.unworried, model, precision)
        rows = [] if run is None else run.stats()
        self.doctor.recall(rows, examples, minutes)
        if tensorboard and run is not None:
            step = 1 + max((r["examples"] for r in rows), default=0)  # what a killed process wrote beyond goes
            self.guard("TensorBoard", partial(self.open_board, run, step))

    def open_board(self, run: Run, step: int) -> None:
        self.board = summary_writer()(str(run.path / "tensorboard"), purge_step=step)

    def close(self) -> None:
        if self.board is not None:
            self.guard("TensorBoard", self.board.close)

    def note(self, means: dict[str, Tensor]) -> None:
        """What a round logged."""
        for name, value in means.items():
            self.values.setdefault(name, []).append(value)

    def log(self, where: dict[str, Any], examples: int | None, minutes: float | None) -> None:
        """Write the means since the last row; `where` says how far the run is."""
        if not self.values:
            return
        means = {k: float(mean_of(k, torch.stack(v))) for k, v in self.values.items()}
        row = where | {k: v for k, v in means.items() if math.isfinite(v) or not k.startswith(GRADIENT)}
        self.values = {}
        self.write(row)
        self.display.update(row, examples, minutes)

    def preview(self, where: dict[str, Any], model: Game, data: Dataset, seed: int) -> None:
        """Pictures of one seed and of fixed images, and the validation measures, once per round."""
        run = self.run
        if run is None or self.previewed == where["round"]:
            return
        self.previewed = where["round"]
        measures: dict[str, float] = {}
        self.guard(
            "previews",
            lambda: measures.update(write_previews(model, data, run.path / "previews", where["round"], seed)),
        )
        if measures:
            self.write(where | measures)

    def alarm(self, strict: bool, on_collapse: str) -> RunError | None:
        """The error to end the run with, where a finding is to end it."""
        for found in self.findings:
            if found.rule == COLLAPSE and on_collapse == "restart":
                return Collapsed(str(found))
            if strict or (found.rule == COLLAPSE and on_collapse == "stop"):
                return RunError(str(found))
        return None

    def write(self, row: dict[str, Any]) -> None:
        run = self.run
        if run is not None:  # JSON has no word for nan
            kept = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
            self.guard("statistics", lambda: run.append(kept))
        if self.board is not None:
            self.guard("TensorBoard", partial(self.chart, row))
            if "TensorBoard" in self.failing:  # its writer's thread has ended
                self.board = None
        for found in self.doctor.see(row):
            self.findings.append(found)
            self.display.warn(str(found))
            if run is not None:
                where = {k: v for k, v in row.items() if k in POSITION}
                self.guard("findings", partial(run.append, where | found.row()))

    def chart(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            self.board.add_scalar(name, value, row["examples"])

    def guard(self, what: str, action: Callable[[], Any]) -> None:
        """Do it; a full disk costs this one, not the run. Told once, until it works again."""
        try:
            action()
            self.failing.discard(what)
        except OSError as error:
            if what not in self.failing:
                self.display.warn(f"{what} not written ({error.strerror or error}); training goes on")
            self.failing.add(what)
