"""Importance weighted autoencoder: a tighter bound from several codes per image.

Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, arXiv:1509.00519, equation 8: the loss is
-E log 1/K sum_k p(x, z_k) / q(z_k | x), z_k ~ q. With K = 1 it is the VAE's, with the KL term estimated by its sample;
it is never looser than that, and tightens as K grows.

Departures: one layer of codes; grey values under the Bernoulli loss, where the bound is of that loss and no likelihood;
samples come from a moving average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

import torch

from latentforge.game import Term
from latentforge.models.vae import VAE
from latentforge.parts.likelihood import importance_bound
from latentforge.registry import register


@register("iwae")
class IWAE(VAE):
    """Encoder and decoder, one player.

    Args:
        particles: K, codes per image
    """

    refuses = ("beta", "kl_warmup", "free_bits")

    def __init__(self, image_shape: tuple[int, int, int], *, particles: int = 5, **options):
        super().__init__(image_shape, **options)
        if self.beta != 1 or self.kl_warmup or self.free_bits:
            raise ValueError(
                "the importance weighted bound has no KL term to weigh; leave out beta, kl_warmup, free_bits"
            )
        self.particles = particles

    def play(self, data, t):
        x = self.drawn(next(data).image, t)  # (B, C, H, W)
        loss = importance_bound(self, x, t.randn(len(x), self.particles, self.latent_dim)).mean()
        t.log("loss", loss)
        yield {"vae": loss}

    def evaluate(self, batch):
        noise = torch.randn(len(batch), self.particles, self.latent_dim).to(batch.image.device)
        return super().evaluate(batch) | {"iwae_nats": importance_bound(self, self.drawn(batch.image), noise)}

    def objective(self):
        return [[Term("vae", f"-log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x),  K = {self.particles}")]]
