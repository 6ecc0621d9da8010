"""Conditional VAE-GAN: a hybrid that draws what it is asked for.

After Bao et al., "CVAE-GAN: Fine-Grained Image Generation through Asymmetric Training", ICCV 2017, arXiv:1703.10155:
encoder, decoder and critic of a VAE-GAN are all told the label.

Departures: the game is that of `larsen-vae-gan` (Larsen's Algorithm 1 and its options) instead of mean feature
matching, and instead of a classifier as fourth player the critic itself judges image and label, by projection (Miyato &
Koyama 2018, arXiv:1802.05637) or with the label as one more channel; for a share `drop` of the training examples the
condition is zero. Each class has its own sampler of codes; samples come from a moving average of the weights (`--ema 0`
for none).
"""

from __future__ import annotations

from typing import Literal

from latentforge.models.larsen_vae_gan import LarsenVAEGAN
from latentforge.nets.condition import condition_for
from latentforge.registry import register


@register("cvae-gan")
class CVAEGAN(LarsenVAEGAN):
    """Encoder, decoder and critic, all told the label.

    Args:
        num_classes: number of classes; follows from the data
        how: how the critic is conditioned: concat (as input) or projection
        drop: share of training examples without their condition
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        num_classes: int = 0,
        how: Literal["concat", "projection"] = "projection",
        drop: float = 0.1,
        **options,
    ):
        condition = condition_for(num_classes, drop)
        super().__init__(image_shape, _condition=condition, _projection=how == "projection", **options)
