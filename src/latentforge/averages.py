"""The moving average of a model's weights and buffers, which is used for sampling and saved."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.parametrizations import _SpectralNorm

from latentforge.game import Game, Seat


class Averages:
    """Moves `average` towards `model`, player by player with the seat's half-life in examples; parameters and buffers
    alike. Which tensor follows which is looked up once: training changes them in place."""

    def __init__(self, average: Game, model: Game, seats: dict[str, Seat]):
        self.moving: list[tuple[float, list[Tensor], list[Tensor]]] = []  # half-life, averages, weights
        self.copied: list[tuple[Tensor, Tensor]] = []  # average, current value
        target, done, owned = average.players(), set(), set()
        for name, modules in model.players().items():
            for module, averaged in zip(modules, target[name], strict=True):
                owned |= {id(b) for b in module.buffers()}
                if id(module) in done:  # shared by two players: averaged with the first
                    continue
                done.add(id(module))
                new = [*module.parameters(), *module.buffers()]
                old = [*averaged.parameters(), *averaged.buffers()]
                # spectral norm's vectors are of length 1, which no average of them is
                unit = {id(b) for m in module.modules() if isinstance(m, _SpectralNorm) for b in m.buffers()}
                pairs = [(o, n.detach()) for o, n in zip(old, new, strict=True)]
                moves = [n.is_floating_point() and id(n) not in unit for n in new]
                floats = [pair for pair, moving in zip(pairs, moves, strict=True) if moving]
                if floats:
                    self.moving.append((seats[name].ema or 0.0, [o for o, _ in floats], [n for _, n in floats]))
                # BatchNorm's count of batches, those vectors
                self.copied += [pair for pair, moving in zip(pairs, moves, strict=True) if not moving]
        for old_buffer, new_buffer in zip(average.buffers(), model.buffers(), strict=True):
            if id(new_buffer) not in owned:  # gates and the like belong to no player
                self.copied.append((old_buffer, new_buffer))

    @torch.no_grad()
    def update(self, fresh: int, seen: int) -> None:
        """After a round that drew `fresh` examples, `seen` in all. The half-life is at most a tenth of the examples
        seen: early weights are soon forgotten."""
        for ema, old, new in self.moving:
            half_life = min(ema, 0.1 * seen)
            torch._foreach_lerp_(old, new, 1.0 - 0.5 ** (fresh / half_life) if half_life else 1.0)
        for o, n in self.copied:
            o.copy_(n)
