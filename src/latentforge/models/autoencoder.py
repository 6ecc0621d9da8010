"""Autoencoder: a code small enough that rebuilding the image from it must learn the data's structure.

Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 2006,
doi:10.1126/science.1127647. `--preset mnist/autoencoder-conv` is the convolutional autoencoder of
article 003; the default `conv` is wider, with kernels of 4 x 4.

Departures: trained end to end with Adam, no layer-wise pre-training; the output goes through a sigmoid, because images
lie in [0, 1]. An autoencoder has no prior: to sample, a Gaussian mixture is fitted on the codes after training. Codes
and images come from a moving average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latentforge import nets
from latentforge.game import Game, Term
from latentforge.parts.gaussian import Point
from latentforge.parts.likelihood import ERROR, reconstruction_error
from latentforge.parts.likeness import mean_squared
from latentforge.registry import register


@register("autoencoder")
class Autoencoder(Game):
    """Encoder and decoder, one player.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        net: mlp (dense), conv (strided convolutions), or the network of an article
        hidden: widths of the dense encoder; the decoder mirrors them (mlp, article-001)
        width: channels of the first convolution, doubled at every halving (conv, resnet)
        kernel: side of the convolutions (conv, resnet)
        reconstruction: squared error summed over pixels, or Bernoulli cross-entropy in nats
    """

    sampler_kind = "gmm"
    has_prior = False

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 20,
        net: nets.Net = "conv",
        hidden: tuple[int, ...] = (512,),
        width: int = 32,
        kernel: int = 4,
        reconstruction: Literal["squared", "bernoulli"] = "squared",
    ):
        super().__init__()
        self.image_shape, self.latent_dim, self.reconstruction = image_shape, latent_dim, reconstruction
        self.encoder = nets.encoder(net, image_shape, latent_dim, hidden, width, kernel)
        self.decoder = nets.decoder(net, latent_dim, image_shape, hidden, width, kernel)

    def players(self):
        return {"autoencoder": [self.encoder, self.decoder]}

    def play(self, data, t):
        x = next(data).image  # (B, C, H, W)
        loss = reconstruction_error(self.decoder(self.encoder(self.spoilt(x, t))), x, self.reconstruction).mean()
        t.log("loss", loss)
        yield {"autoencoder": loss}

    def spoilt(self, x: Tensor, t) -> Tensor:
        """What the encoder is shown of x while training: x; the denoising families spoil it here."""
        return x

    def encode(self, image: Tensor, y: Tensor | None = None) -> Point:
        return Point(self.encoder(image.to(self.device)))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(z))

    def evaluate(self, batch):
        logits = self.decoder(self.encoder(batch.image))
        out = {"reconstruction_mse": mean_squared(torch.sigmoid(logits), batch.image)}
        if self.reconstruction == "bernoulli":
            out["loss_nats"] = reconstruction_error(logits, batch.image, self.reconstruction)
        return out

    def objective(self):
        return [[Term("autoencoder", f"{ERROR[self.reconstruction]},  x' = decoder(encoder(x))")]]
