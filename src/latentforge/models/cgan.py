"""Conditional GAN: what to draw is asked for.

Mirza & Osindero, "Conditional Generative Adversarial Nets", 2014, arXiv:1411.1784, equation 2 (article 003): generator
and critic are both told the label. `how=concat` gives it to the critic as part of its input, as they do; `projection`
is that of Miyato & Koyama, "cGANs with Projection Discriminator", ICLR 2018, arXiv:1802.05637.

Departures: convolutional networks by default; the critic is conditioned by projection by default; under `how=concat` it
gets the label as one more channel, a learned linear image of it, instead of beside the pixels of a dense layer; Adam
instead of momentum; the generator is updated on the images that the critic has just been trained on; samples come from
a moving average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

from typing import Literal

from latentforge.game import Seat
from latentforge.models._either import EitherDuel
from latentforge.nets.condition import condition_for
from latentforge.registry import register


@register("cgan")
class CGAN(EitherDuel):
    """Critic and generator, in turn, both told the label.

    Args:
        num_classes: number of classes; follows from the data
        how: how the critic is conditioned: concat (as input) or projection
        drop: share of training examples without their condition
    """

    seat = Seat(lr=2e-4, betas=(0.5, 0.999))

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        num_classes: int = 0,
        how: Literal["concat", "projection"] = "projection",
        drop: float = 0.0,
        **options,
    ):
        super().__init__(
            image_shape, _condition=condition_for(num_classes, drop), _projection=how == "projection", **options
        )
