"""R3GAN: a relativistic critic with two gradient penalties.

Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline", NeurIPS 2024, arXiv:2501.05441, equation 2:
the critic judges pairs of a real and a generated image, softplus(D(G(z)) - D(x)), the generator the other way round;
R1 at real and R2 at generated images in every step; no normalisation, no momentum (Adam with betas 0 and .99).

Departures: plain strided convolutions with He's initialisation and zero biases instead of their residual networks with
bilinear resampling, which two cores cannot train in minutes; the penalties every fourth round with four times the
weight, for the same reason (`--penalty-every 1` is the paper's); a rate of 4e-4 for theirs of 2e-4 and a gamma of .1;
constant rate, gamma and average (theirs follow schedules over millions of images; `--schedule cosine` decays the rate);
the generator is updated on the images that the critic has just been trained on.
"""

from __future__ import annotations

from latentforge.game import Seat
from latentforge.models._either import EitherDuel
from latentforge.parts.adversarial import Loss
from latentforge.registry import register


@register("r3gan")
class R3GAN(EitherDuel):
    """Critic and generator, in turn."""

    norms = (False, False)
    seat = Seat(lr=4e-4, betas=(0.0, 0.99))

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        loss: Loss = "relativistic",
        r1: float = 0.1,
        r2: float = 0.1,
        penalty_every: int = 4,
        **options,
    ):
        super().__init__(image_shape, loss=loss, r1=r1, r2=r2, penalty_every=penalty_every, **options)
