"""Adversarial autoencoder: a critic on codes makes them follow the prior.

Makhzani et al., "Adversarial Autoencoders", 2016, arXiv:1511.05644, section 2. Each round has two phases: encoder and
decoder rebuild the image; then the critic learns to tell codes of the prior (real) from codes of images (fake), and
the encoder, as its generator, learns to fool it. How well the codes match the prior is the row `codes-frechet` of
`latentforge evaluate`.

Departures: Adam instead of momentum; a deterministic encoder only (their first of three); the reconstruction is by
Bernoulli likelihood or squared error summed over pixels; R1 on the critic, without which the critic won for good (`--r1
0` for the paper's); samples come from a moving average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from latentforge import nets
from latentforge.duel import GENERATOR, Duel
from latentforge.game import Game, Seat, Term
from latentforge.parts.gaussian import Point
from latentforge.parts.likelihood import ERROR, reconstruction_error
from latentforge.parts.likeness import mean_squared
from latentforge.parts.noise import Noise
from latentforge.registry import register


@register("aae")
class AAE(Duel):
    """Autoencoder, critic on codes, and the encoder once more as the critic's opponent.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        noise: the prior of the code, uniform in [-1, 1] or standard normal
        net: mlp (dense), conv (strided convolutions), or the network of an article
        hidden: widths of the dense encoder; the decoder mirrors them (mlp, article-001)
        critic_hidden: widths of the critic
        width: channels of the first convolution, doubled at every halving (conv, resnet)
        reconstruction: squared error summed over pixels, or Bernoulli cross-entropy in nats
    """

    pixel_range = (0.0, 1.0)
    shared: ClassVar[set[str]] = {"encoder."}

    refuses = ("augment",)

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 16,
        noise: Noise = "normal",
        net: nets.Net = "conv",
        hidden: tuple[int, ...] = (512,),
        critic_hidden: tuple[int, ...] = (512, 512),
        width: int = 32,
        reconstruction: Literal["squared", "bernoulli"] = "bernoulli",
        r1: float = 1.0,
        **rules,
    ):
        super().__init__(r1=r1, **rules)
        if self.augment != "none":
            raise ValueError("augment changes images, and this critic sees codes")
        self.image_shape, self.latent_dim, self.noise = image_shape, latent_dim, noise
        self.reconstruction = reconstruction
        self.encoder = nets.encoder(net, image_shape, latent_dim, hidden, width, 4)
        self.decoder = self.with_dropout(nets.decoder(net, latent_dim, image_shape, hidden, width, 4))
        self.critic = self.with_rules(nets.MLPCritic((latent_dim, 1, 1), critic_hidden))

    def players(self):
        return {"autoencoder": [self.encoder, self.decoder], "critic": [self.critic], "encoder": [self.encoder]}

    def seats(self):
        rates = {"critic": 2e-3, "encoder": 8e-4}
        against = {name: Seat(lr=lr, betas=(0.5, 0.999)) for name, lr in rates.items()}
        return {"autoencoder": Seat(lr=1e-3)} | against

    def play(self, data, t):
        for _ in range(self.critic_steps - 1):
            yield {"critic": self.against_prior(next(data).image, t)}
        x = next(data).image  # (B, C, H, W)
        error = reconstruction_error(self.decoder(self.encoder(x)), x, self.reconstruction).mean()
        t.log("reconstruction", error)
        yield {"autoencoder": error}
        yield {"critic": self.against_prior(x, t)}
        for _ in range(self.generator_steps):
            yield {"encoder": self.generator_cost((self.start(t, len(x)),), (self.encoder(x),), t)}

    def against_prior(self, x: Tensor, t) -> Tensor:
        """The critic's loss: codes of the prior against codes of images."""
        with torch.no_grad():
            codes = self.encoder(x)
        return self.critic_cost((self.start(t, len(x)),), (codes,), t)

    def critic_eyes(self):
        return Game.critic_eyes(self)  # this critic sees codes

    def encode(self, image: Tensor, y: Tensor | None = None) -> Point:
        return Point(self.encoder(image.to(self.device)))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(z))

    def evaluate(self, batch):
        x = batch.image
        codes = self.encoder(x)
        z = self.draw_prior(len(x), torch.default_generator).to(x)
        return {
            "reconstruction_mse": mean_squared(self.generate(codes), x),
            "critic_real_logit": self.judged(z),
            "critic_fake_logit": self.judged(codes),
        }

    def objective(self):
        critic = self.critic_terms("z_p", "encoder(x)")
        fool = Term("encoder", GENERATOR[self.loss].format(real="z_p", fake="encoder(x)"))
        moves = [[Term("autoencoder", f"{ERROR[self.reconstruction]},  x' = decoder(encoder(x))")], critic]
        return [critic] * (self.critic_steps - 1) + moves + [[fool]] * self.generator_steps
