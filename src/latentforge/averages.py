"""The moving average of a model's weights and buffers, which is what samples and is saved."""

from __future__ import annotations

import torch
from torch.nn.utils.parametrizations import _SpectralNorm

from latentforge.game import Game, Seat


@torch.no_grad()
def update_average(average: Game, model: Game, seats: dict[str, Seat], fresh: int, seen: int) -> None:
    """Move `average` towards `model` after a round that drew `fresh` examples, player by player with the seat's half-life
    in examples; parameters and buffers alike. The half-life is at most a tenth of the examples seen: early weights are
    soon forgotten."""
    target, done = average.players(), set()
    for name, modules in model.players().items():
        half_life = min(seats[name].ema or 0.0, 0.1 * seen)
        share = 1.0 - 0.5 ** (fresh / half_life) if half_life else 1.0
        for module, averaged in zip(modules, target[name], strict=True):
            if id(module) in done:  # shared by two players: averaged with the first
                continue
            done.add(id(module))
            new = [*module.parameters(), *module.buffers()]
            old = [*averaged.parameters(), *averaged.buffers()]
            # spectral norm's vectors are of length 1, which no average of them is
            unit = {id(b) for m in module.modules() if isinstance(m, _SpectralNorm) for b in m.buffers()}
            floats = [
                (o, n.detach()) for o, n in zip(old, new, strict=True) if o.is_floating_point() and id(n) not in unit
            ]
            if floats:
                torch._foreach_lerp_([o for o, _ in floats], [n for _, n in floats], share)
            for o, n in zip(old, new, strict=True):
                if not o.is_floating_point() or id(n) in unit:  # BatchNorm's count of batches, those vectors
                    o.copy_(n)
    owned = {id(b) for modules in model.players().values() for m in modules for b in m.buffers()}
    for old_buffer, new_buffer in zip(average.buffers(), model.buffers(), strict=True):
        if id(new_buffer) not in owned:  # gates and the like belong to no player
            old_buffer.copy_(new_buffer)
