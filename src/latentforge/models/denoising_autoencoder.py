"""Denoising autoencoder: rebuilds the image from a spoilt one.

Vincent et al., "Extracting and composing robust features with denoising autoencoders", ICML 2008, and "Stacked denoising
autoencoders", JMLR 2010, section 3: the encoder sees x~ ~ C(x~|x), the loss compares with x. The noise is drawn anew
every time an image is seen. Article 000's noise is the default: Gaussian, sigma .2, clipped to [0, 1].

Departures: not stacked, trained end to end like `autoencoder`, whose networks and losses these are; Gaussian noise by
default, where the first paper masks. Beside the noises of the papers, images can be blurred or faded: the deblurring
and the enhancing encoder and decoder of article 001, 3.2. Codes and images come from a moving average of the weights
(`--ema 0` for none).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from latentforge.clock import Clock
from latentforge.game import Game
from latentforge.models.autoencoder import Autoencoder
from latentforge.parts.corrupt import NOISES, Corruption, corrupt
from latentforge.parts.likeness import mean_squared
from latentforge.parts.operators import parse
from latentforge.registry import register


class Denoising(Game):
    """Mixed into an autoencoder: its encoder is shown spoilt images while training.

    Args:
        image_shape: (C, H, W) of the images
        corruption: gaussian noise, masking (pixels set to 0), salt-and-pepper (0 or 1), blur or faded (lower contrast)
        amount: standard deviation of the gaussian noise, share of the pixels, pixels of the blur, or share of the contrast
          that is left
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        corruption: Corruption = "gaussian",
        amount: float = 0.2,
        **options,
    ):
        super().__init__(image_shape, **options)  # type: ignore[call-arg]
        if corruption in ("masking", "salt-and-pepper") and amount > 1:
            raise ValueError(f"amount {amount:g} is a share of the pixels under {corruption}; give at most 1")
        self.corruption, self.amount = corruption, amount
        self.spoiling = None if corruption in NOISES else parse(f"{corruption}:{amount}")

    def spoilt(self, x: Tensor, t) -> Tensor:
        if self.spoiling is None:
            return corrupt(x, self.corruption, self.amount, t)
        with torch.autocast(x.device.type, enabled=False):
            return self.spoiling(x, t).clamp(0, 1)

    def evaluate(self, batch):
        """The family's measures of clean images, and the error of images rebuilt from spoilt ones."""
        spoilt = self.spoilt(batch.image, Clock.fresh(batch.image.device))
        y = self.labels_of(batch)
        rebuilt = self.to_unit(self.generate(self.encode(spoilt, y).mean, y))
        return super().evaluate(batch) | {
            "spoilt_mse": mean_squared(spoilt, batch.image), "denoised_mse": mean_squared(rebuilt, batch.image),
        }  # fmt: skip

    def objective(self):
        about = f"  encoder sees x under {self.spoiling or f'{self.corruption} noise of {self.amount:g}'}"
        (first, *rest), *moves = super().objective()
        return [[replace(first, formula=first.formula + about), *rest], *moves]


@register("denoising-autoencoder")
class DenoisingAutoencoder(Denoising, Autoencoder):
    """Encoder and decoder, one player."""
