"""Conditional VAE: encoder and decoder are told what the image shows.

Sohn, Lee & Yan, "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS 2015,
equation 4, with N(0, I) as the prior of the code for every condition (Kingma et al. 2014, arXiv:1406.5298, model M2).
The condition is a class, one-hot, or a numeric descriptor (article 001, 3.1): standardised, a linear layer, then a
trainable layer of radial basis functions.

Departures: for a share `drop` of the training examples the condition is zero, so that encoding, decoding and sampling
also work without (y None; labels of -1); the encoder gets the condition as one more channel, a learned linear image of
it; samples draw their codes from a mixture per class fitted after training, because codes of the prior that no image
has are often of no class (`--sampler prior` for N(0, I)), and come from a moving average of the weights (`--ema 0` for
none).
"""

from __future__ import annotations

from latentforge.models.vae import VAE
from latentforge.nets.condition import condition_for
from latentforge.registry import register


@register("cvae")
class CVAE(VAE):
    """Encoder and decoder, one player, both told the condition.

    Args:
        num_classes: number of classes; follows from the data
        descriptor_mean: mean of each number of the descriptor; follows from the data
        descriptor_stddev: standard deviation of each
        features: radial basis functions over the descriptor
        drop: share of training examples without their condition
    """

    sampler_kind = "gmm"

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        num_classes: int = 0,
        descriptor_mean: tuple[float, ...] = (),
        descriptor_stddev: tuple[float, ...] = (),
        features: int = 64,
        drop: float = 0.1,
        **options,
    ):
        condition = condition_for(num_classes, drop, descriptor_mean, descriptor_stddev, features)
        super().__init__(image_shape, _condition=condition, **options)
