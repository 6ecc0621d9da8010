"""What each player of a move descends along, and the sum over the parts of a batch. None where a parameter had no part."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from latentforge.game import Move


def gradients_of(move: Move, parameters: dict[str, list], share: float) -> dict[str, list[Tensor | None]]:
    """Each player's gradient of `share` times its own loss over its own parameters. Players that are given one and the
    same tensor are served by one pass back. In the order of the move."""
    together: dict[int, list[str]] = {}
    for name, loss in move.items():
        together.setdefault(id(loss), []).append(name)
    out: dict[str, list[Tensor | None]] = {}
    for i, names in enumerate(together.values(), 1):
        asked = [p for name in names for p in parameters[name]]
        loss, more = move[names[0]] * share, i < len(together)
        found = iter(torch.autograd.grad(loss, asked, retain_graph=more, allow_unused=True))
        out |= {name: list(islice(found, len(parameters[name]))) for name in names}
    return {name: out[name] for name in move}


def add(a: list[Tensor | None], b: list[Tensor | None]) -> list[Tensor | None]:
    return [y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True)]
