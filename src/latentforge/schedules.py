"""What changes during training, as a function of examples seen or of the share of the budget."""

from __future__ import annotations

import math
from typing import Literal, get_args

from latentforge.errors import InputError, suggest

Schedule = Literal["constant", "linear", "cosine"]


def ramp(examples: int, length: int) -> float:
    """0 -> 1 over the first `length` examples; 1 at once where length is 0."""
    return 1.0 if length <= 0 else min(1.0, examples / length)


def decay(kind: Schedule, progress: float, span: tuple[float, float] = (0.0, 1.0)) -> float:
    """Factor on the learning rate at this share of the budget: constant 1, or over the span of shares down to 0 on a line
    or half a cosine. InputError for a name that is none."""
    if kind not in (names := get_args(Schedule)):
        raise InputError(f"there is no schedule '{kind}'.{suggest(kind, names)}")
    if kind == "constant":
        return 1.0
    done = min(1.0, max(0.0, (progress - span[0]) / (span[1] - span[0])))
    return 1.0 - done if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def budget(
    n: int, epochs: float | None, examples: int | None, minutes: float | None
) -> tuple[int | None, float | None]:
    """(examples, minutes), one of them None, for a training set of n images; 5 minutes where nothing is given."""
    given = {k: v for k, v in (("epochs", epochs), ("examples", examples), ("minutes", minutes)) if v is not None}
    if len(given) > 1:
        raise InputError(f"give one budget, not {len(given)}: {', '.join('--' + k for k in given)}.")
    for name, value in given.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"--{name} {value:g} is no budget; give a number above 0.")
    if epochs is not None:
        return math.ceil(epochs * n), None
    if examples is not None:
        return int(examples), None  # numpy's numbers fit no configuration
    return None, float(minutes) if minutes is not None else 5.0
