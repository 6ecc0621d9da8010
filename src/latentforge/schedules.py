"""What changes during training, as a function of examples seen or of the share of the budget."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def ramp(examples: int, length: int) -> float:
    """0 -> 1 over the first `length` examples; 1 at once where length is 0."""
    return 1.0 if length <= 0 else min(1.0, examples / length)


def decay(kind: Schedule, progress: float) -> float:
    """Factor on the learning rate at this share of the budget: constant 1, or down to 0 on a line or half a cosine."""
    if kind == "constant":
        return 1.0
    return 1.0 - progress if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
