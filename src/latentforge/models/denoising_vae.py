"""Denoising VAE: a VAE whose encoder sees spoilt images.

Im et al., "Denoising Criterion for Variational Auto-Encoding Framework", AAAI 2017, arXiv:1511.06406: with x~ ~ C(x~|x)
the loss is -E log p(x|z) of the clean x with z ~ q(z|x~), plus KL(q(z|x~) || p(z)): a bound, and no tighter than the one
of the posterior that mixes over x~. Article 000 trains its VAE on images with Gaussian noise of .2; that noise is the default.

Departures: one corruption per image and round, blur and less contrast among them; everything else as in `vae`: samples
come from a moving average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

from latentforge.models.denoising_autoencoder import Denoising
from latentforge.models.vae import VAE
from latentforge.registry import register


@register("denoising-vae")
class DenoisingVAE(Denoising, VAE):
    """Encoder and decoder, one player."""
