"""Unrolled GAN: the generator looks ahead at the critic's answer.

Metz et al., "Unrolled Generative Adversarial Networks", ICLR 2017, arXiv:1611.02163, equations 6 to 10: the generator
descends its loss under a critic that has taken `unroll` more steps, and its gradient runs through those steps; the
critic itself takes one ordinary step per round. With `unroll=0` this is `gan`, number for number.

Departures: the steps looked ahead are plain gradient steps (their equation 6) of rate `unroll_rate`, on the images of
the critic's last real step, without penalties, clamp and label noise; their code unrolls Adam; the generator is updated
on the images that the critic has just been trained on; samples come from a moving average of the weights (`--ema 0` for
none).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from latentforge.game import uncompiled
from latentforge.models.gan import GAN
from latentforge.parts.adversarial import critic_loss, generator_loss
from latentforge.registry import register


@register("unrolled-gan")
class UnrolledGAN(GAN):
    """Critic and generator, in turn.

    Args:
        unroll: critic steps the generator looks ahead
        unroll_rate: their learning rate
    """

    def __init__(self, image_shape: tuple[int, int, int], *, unroll: int = 5, unroll_rate: float = 0.01, **options):
        super().__init__(image_shape, **options)
        self.unroll, self.unroll_rate = unroll, unroll_rate
        self.batch_coupled = self.batch_coupled or unroll > 0  # the steps ahead follow the whole batch

    def generator_cost(self, real, fake, t, y=None) -> Tensor:
        if not self.unroll:
            return super().generator_cost(real, fake, t, y)
        real, fake = self.disguise(real, t), self.disguise(fake, t)
        weights = dict(self.critic.named_parameters())
        with uncompiled(self.critic):
            for _ in range(self.unroll):
                a, b = (functional_call(self.critic, weights, shown) for shown in (real, fake))
                costs = critic_loss(a, b, self.loss, self.smoothing)
                steps = torch.autograd.grad(
                    costs[0].mean() + costs[1].mean(), list(weights.values()), create_graph=True
                )
                weights = {k: w - self.unroll_rate * g for (k, w), g in zip(weights.items(), steps, strict=True)}
            a, b = (functional_call(self.critic, weights, shown) for shown in (real, fake))
        cost = generator_loss(b, self.loss, a).mean()
        t.log("generator", cost)
        return cost

    def objective(self):
        ahead = f"  under the critic {self.unroll} steps ahead" if self.unroll else ""
        return [
            [replace(m, formula=m.formula + ahead * (m.player == "generator")) for m in move]
            for move in super().objective()
        ]
