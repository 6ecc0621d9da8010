"""Generative adversarial network with dense players.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, arXiv:1406.2661, Algorithm 1 with one critic step per
generator step. Sizes, uniform noise and optimiser are those of article 003: critic 256-256, generator 1024-1024,
Adam 1e-3 with beta1 .5.

Departures: leaky ReLU instead of maxout, no dropout; the generator descends -log D(G(z)) (their section 3's advice)
unless `loss` is minimax.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.game import Game, Seat
from latentforge.nets import MLPCritic, MLPDecoder
from latentforge.parts.adversarial import GeneratorLoss, critic_loss, generator_loss
from latentforge.parts.noise import Noise, draw_noise
from latentforge.registry import register


def play_gan(game, data, t):
    """One round of Algorithm 1: the critic steps, then the generator through the stepped critic. Also DCGAN's."""
    x = game.to_network(next(data).image)  # (B, C, H, W)
    n = len(x)
    with torch.no_grad():
        fake = game.generate(draw_noise(game.noise, t, n, game.latent_dim))
    real_cost, fake_cost = critic_loss(game.critic(x), game.critic(fake))
    t.log("critic_real", real_cost)
    t.log("critic_fake", fake_cost)
    yield {"critic": real_cost.mean() + fake_cost.mean()}
    fake = game.generate(draw_noise(game.noise, t, n, game.latent_dim))
    loss = generator_loss(game.critic(fake), game.loss).mean()
    t.log("generator", loss)
    yield {"generator": loss}


def critic_logits(game, batch) -> dict[str, Tensor]:
    """What the critic says of an image and of a fresh sample: logits (B,)."""
    z = game.draw_prior(len(batch), torch.default_generator).to(batch.image.device)
    real = game.critic(game.to_network(batch.image))
    return {"critic_real_logit": real, "critic_fake_logit": game.critic(game.generate(z))}


@register("gan")
class GAN(Game):
    """Critic and generator, in turn.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the noise vector
        noise: uniform in [-1, 1] or standard normal
        hidden: widths of the generator
        critic_hidden: widths of the critic
        loss: what the generator descends, -log D(G(z)) or log(1 - D(G(z)))
    """

    pixel_range = (-1.0, 1.0)

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 100,
        noise: Noise = "uniform",
        hidden: tuple[int, ...] = (1024, 1024),
        critic_hidden: tuple[int, ...] = (256, 256),
        loss: GeneratorLoss = "nonsaturating",
    ):
        super().__init__()
        self.image_shape, self.latent_dim, self.noise, self.loss = image_shape, latent_dim, noise, loss
        self.generator = MLPDecoder(latent_dim, image_shape, hidden)
        self.critic = MLPCritic(image_shape, critic_hidden)

    def players(self):
        return {"critic": [self.critic], "generator": [self.generator]}

    def seats(self):
        return {"critic": Seat(lr=1e-3, betas=(0.5, 0.999)), "generator": Seat(lr=1e-3, betas=(0.5, 0.999))}

    def play(self, data, t):
        yield from play_gan(self, data, t)

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.tanh(self.generator(z))

    def draw_prior(self, n: int, generator: torch.Generator) -> Tensor:
        return draw_noise(self.noise, generator, n, self.latent_dim)

    def evaluate(self, batch):
        return critic_logits(self, batch)
