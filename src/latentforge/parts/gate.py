"""Sitting out: a player rests while the game is uneven (Larsen et al. 2016, released code)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEMORY = 0.9  # of the running averages, per round


class Gate(nn.Module):
    """Running averages of the critic's cost of real and of generated images, in nats, and who sits out by them. An even
    game has D = 1 / (1 + kinds), where each real image faces so many kinds of generated ones."""

    even: Tensor
    running: Tensor

    def __init__(self, kinds: int, margin: float):
        super().__init__()
        self.margin = margin
        self.register_buffer("even", torch.tensor([1.0 + kinds, (1.0 + kinds) / kinds]).log(), persistent=False)
        self.register_buffer("running", self.even.clone())

    def note(self, real: Tensor, fake: Tensor) -> None:
        """The costs of a round; those that are not finite must not blind the gate for good."""
        now = torch.stack([real, fake])
        if now.isfinite().all():
            self.running.lerp_(now, 1 - MEMORY)

    def sitting_out(self) -> list[str]:
        """The critic where it wins by more than the margin on either kind of image, the decoder where the critic loses
        by as much; nobody where both would, or without a margin."""
        if not self.margin:
            return []
        critic = bool((self.running < self.even - self.margin).any())
        decoder = bool((self.running > self.even + self.margin).any())
        return [] if critic and decoder else ["critic"] * critic + ["decoder"] * decoder
