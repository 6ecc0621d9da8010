"""Generative adversarial network with dense players.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, arXiv:1406.2661, Algorithm 1 with one critic step per
generator step; the round itself is `Duel.play`. Sizes, uniform noise and optimiser are those of article 003: critic
256-256, generator 1024-1024, Adam 1e-3 with beta1 .5.

Departures: leaky ReLU instead of maxout, no dropout unless asked for; Adam instead of momentum; the generator minimises
-log s(D(G(z))) with s the sigmoid (their section 3's advice) unless `loss` says otherwise, on the images that the
critic has just been trained on instead of fresh ones; samples come from a moving average of the weights (`--ema 0` for
none).
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.duel import Duel
from latentforge.game import Seat
from latentforge.nets import MLPCritic, MLPDecoder
from latentforge.parts.noise import Noise
from latentforge.registry import register


@register("gan")
class GAN(Duel):
    """Critic and generator, in turn.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the noise vector
        noise: uniform in [-1, 1] or standard normal
        hidden: widths of the generator
        critic_hidden: widths of the critic
    """

    seat = Seat(lr=1e-3, betas=(0.5, 0.999))

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 100,
        noise: Noise = "uniform",
        hidden: tuple[int, ...] = (1024, 1024),
        critic_hidden: tuple[int, ...] = (256, 256),
        **rules,  # the arguments of Duel: loss, critic_steps, r1 ...
    ):
        super().__init__(**rules)
        self.image_shape, self.latent_dim, self.noise = image_shape, latent_dim, noise
        self.generator = self.with_dropout(MLPDecoder(latent_dim, image_shape, hidden))
        self.critic = self.with_rules(MLPCritic(image_shape, critic_hidden))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.tanh(self.generator(z))
