"""Wasserstein GAN with clipped weights.

Arjovsky, Chintala & Bottou, "Wasserstein GAN", ICML 2017, arXiv:1701.07875, Algorithm 1: the critic, 1-Lipschitz up to
a factor because its weights are clamped to a small box, maximises E f(x) - E f(G(z)); five of its steps per generator
step; RMSProp. As in the authors' code it takes 100 steps in the first 25 rounds and in every 500th. What it
maximises estimates the distance to the data, up to that factor: `estimate` in stats.jsonl.

Departures: the clamp comes before a step, as in the authors' code, instead of after it; the generator is updated on the
images of the critic's last step instead of fresh ones; samples are drawn with a moving average of the weights
(`--ema 0` for the paper's), a long one, as five critic steps take most of the images; rates of 3e-4 and 1e-3 for theirs
of 5e-5, falling to 0, and small dense networks, clipped at .005, for their convolutional ones, clipped at .01
(`--net conv`), for runs of minutes; RMSProp forgets by .9 and not by .99; images of any size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from latentforge.game import Seat
from latentforge.models._either import EitherDuel
from latentforge.parts.adversarial import Loss
from latentforge.registry import register


@register("wgan")
class WGAN(EitherDuel):
    """Critic and generator, in turn, the critic several times.

    Args:
        boosted_steps: critic steps in the first rounds and in every 500th
        boosted_rounds: number of first rounds with boosted_steps; 0: none, and none in every 500th round
    """

    schedule = "linear"

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        net: Literal["mlp", "conv"] = "mlp",
        hidden: tuple[int, ...] = (256, 256),
        critic_hidden: tuple[int, ...] = (256, 256),
        loss: Loss = "wasserstein",
        critic_steps: int = 5,
        clip_weights: float = 0.005,
        boosted_steps: int = 100,
        boosted_rounds: int = 25,
        **options,
    ):
        super().__init__(
            image_shape, net=net, hidden=hidden, critic_hidden=critic_hidden,
            loss=loss, critic_steps=critic_steps, clip_weights=clip_weights, **options,
        )  # fmt: skip
        self.boosted_steps, self.boosted_rounds = boosted_steps, boosted_rounds

    def critic_steps_at(self, round_: int) -> int:
        boosted = round_ < self.boosted_rounds or round_ % 500 == 0
        return self.boosted_steps if boosted and self.boosted_rounds else self.critic_steps

    def objective(self):
        moves = super().objective()
        if not self.boosted_rounds:
            return moves
        often = f",  in rounds 1 to {self.boosted_rounds} and in every 500th {self.boosted_steps} times in turn"
        return [[replace(m, formula=m.formula + often) if m.player == "critic" else m for m in move] for move in moves]

    def seats(self):
        rates = {"critic": 3e-4, "generator": 1e-3}
        return {name: Seat(lr=lr, optimizer="rmsprop", ema=100_000) for name, lr in rates.items()}
