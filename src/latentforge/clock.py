"""The clock of a run: how far it is, the round's randomness, and what the round wants to be known.

A round's randomness depends on (seed, round) alone, so a resumed run needs no generator state. Noise is drawn for the
whole global batch and sliced, so a batch split over accumulated parts or processes sees the noise the whole would see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def mix(*numbers: int) -> int:
    """One 63-bit seed from several integers, each xored in and stirred by the multiplications of SplitMix64's finaliser; their
    order matters."""
    h = 0x9E3779B97F4A7C15
    for n in numbers:
        h = (h ^ (int(n) & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        h ^= h >> 31
    return h >> 1


def reseed(seed: int, device: torch.device | str = "cpu") -> None:
    """Seed torch's global generators of the CPU and of `device`, and of no other one."""
    torch.default_generator.manual_seed(seed)
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def seeded(seed: int | None = None, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside the block torch's global generators, of the CPU and of `device`, begin from `seed` where one is given; afterwards
    they are what they were."""
    kind = torch.device(device).type
    kept = torch.mps.get_rng_state() if kind == "mps" else None
    try:
        with torch.random.fork_rng(devices=[device] if kind == "cuda" else []):
            if seed is not None:
                reseed(seed, device)
            yield
    finally:
        if kept is not None:
            torch.mps.set_rng_state(kept)


class Clock:
    """Handed to `Game.play` and `Game.settle` as `t`. One per part of a round (accumulated or on another process)."""

    def __init__(self, seed: int = 0, device: torch.device | str = "cpu", part: int = 0, parts: int = 1):
        self.seed, self.part, self.parts = seed, part, parts
        self.round = 0  # rounds finished
        self.examples = 0  # images drawn, all parts and processes
        self.progress = 0.0  # share of the budget, in [0, 1]
        self.stage = 0  # of a model that trains in stages
        self.means: dict[str, Tensor] = {}  # in `settle`: what was logged this round, averaged over parts
        self.logged: dict[str, Tensor] = {}  # this part's share of it
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)

    @classmethod
    def fresh(cls, device: torch.device | str) -> Clock:
        """One for a single evaluation: its seed is drawn from torch's generator, its round has begun."""
        t = cls(int(torch.randint(2**31, ())), device)
        t.start_round()
        return t

    def start_round(self) -> None:
        """Reseed from (seed, round): the same for every part, which then slices its share of each draw. A generator on the
        processor looks at 32 bits of its seed, so that rounds are counted on instead of mixed in: no two are alike."""
        self.generator.manual_seed(mix(self.seed, 0xC10C) + self.round)
        self.logged = {}

    def _share(self, draw, n: int, *shape: int) -> Tensor:
        whole = draw(n * self.parts, *shape, generator=self.generator, device=self.device)
        return whole[self.part * n : (self.part + 1) * n]

    def randn(self, n: int, *shape: int) -> Tensor:
        """(n, *shape) standard normal noise, float32."""
        return self._share(torch.randn, n, *shape)

    def rand(self, n: int, *shape: int) -> Tensor:
        """(n, *shape) uniform noise in [0, 1), float32."""
        return self._share(torch.rand, n, *shape)

    def log(self, name: str, value: Tensor | float) -> None:
        """Record a number of this round (its mean where `value` has several); it reaches `means` and the log.
        Logged twice in a round, the last one counts."""
        value = value.detach().float().mean() if isinstance(value, Tensor) else torch.tensor(float(value))
        self.logged[name] = value
