"""Two phases that alternate until one of them no longer gets better."""

from __future__ import annotations

import torch
from torch import Tensor, nn

UNKNOWN = 1e9  # no loss yet


class Phases(nn.Module):
    """Phase 0 lasts `lengths[0]` rounds, phase 1 `lengths[1]`, and so on in turn. Phase 1 has a loss; the alternation has
    converged when the loss's mean over a phase has not fallen below the best so far by a share `tolerance` in `patience`
    phases in a row; never where `patience` is 0."""

    phase: Tensor
    rounds: Tensor  # of the current phase, played
    stale: Tensor  # phases without a fall
    best: Tensor
    total: Tensor  # the loss's sum over the current phase
    count: Tensor

    def __init__(self, lengths: tuple[int, int], tolerance: float, patience: int):
        super().__init__()
        self.lengths, self.tolerance, self.patience = lengths, tolerance, patience
        for name in ("phase", "rounds", "stale", "count"):
            self.register_buffer(name, torch.tensor(0))
        self.register_buffer("best", torch.tensor(UNKNOWN))
        self.register_buffer("total", torch.tensor(0.0))

    def begin(self) -> None:
        """Forget what was noted."""
        for counter in (self.phase, self.rounds, self.stale, self.count, self.total):
            counter.zero_()
        self.best.fill_(UNKNOWN)

    def note(self, loss: Tensor | None) -> None:
        """A round is over; `loss` where it had one."""
        self.rounds += 1
        if loss is not None and loss.isfinite():
            self.total += loss
            self.count += 1
        if int(self.rounds) < self.lengths[int(self.phase)]:
            return
        if int(self.phase) == 1 and int(self.count):
            mean = self.total / self.count
            fell = mean < self.best * (1 - self.tolerance)
            self.stale.copy_(torch.where(fell, 0, self.stale + 1))
            self.best.copy_(torch.where(fell, mean, self.best))
        self.phase.copy_(1 - self.phase)
        for counter in (self.rounds, self.total, self.count):
            counter.zero_()

    @property
    def converged(self) -> bool:
        return bool(self.patience) and int(self.stale) >= self.patience
