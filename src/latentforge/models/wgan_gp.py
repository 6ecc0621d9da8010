"""Wasserstein GAN with gradient penalty.

Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, arXiv:1704.00028, Algorithm 1: the critic keeps
its slope at 1 by 10 (||grad D|| - 1)^2 on straight lines between real and generated images, the norm over all axes of
an image; five critic steps per generator step; Adam with betas 0 and .9; no batch norm in the critic.

Departures: a rate of 3e-4 for theirs of 1e-4, for runs of minutes; the generator is updated on the images of the
critic's last step instead of fresh ones; batch norm in the convolutional generator is kept, in the dense one there is
none; `estimate` in stats.jsonl is E f(x) - E f(G(z)) without the penalty; samples come from a moving average of the
weights (`--ema 0` for none).
"""

from __future__ import annotations

from latentforge.game import Seat
from latentforge.models._either import EitherDuel
from latentforge.parts.adversarial import Loss
from latentforge.registry import register


@register("wgan-gp")
class WGANGP(EitherDuel):
    """Critic and generator, in turn, the critic several times."""

    norms = (True, False)
    seat = Seat(lr=3e-4, betas=(0.0, 0.9))

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        loss: Loss = "wasserstein",
        critic_steps: int = 5,
        gradient_penalty: float = 10.0,
        **options,
    ):
        super().__init__(
            image_shape, loss=loss, critic_steps=critic_steps, gradient_penalty=gradient_penalty, **options
        )
