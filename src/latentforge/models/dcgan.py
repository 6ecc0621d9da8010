"""Deep convolutional GAN.

Radford, Metz & Chintala, "Unsupervised representation learning with deep convolutional GANs", ICLR 2016,
arXiv:1511.06434, sections 3 and 4: strided convolutions, batch norm except at the critic's input and the generator's
output, ReLU and tanh in the generator, leaky ReLU .2 in the critic, Adam 2e-4 with beta1 .5, weights ~ N(0, .02^2).
`article-003` (max-pooling critic) and `article-004` (global max pooling and dropout) are the articles' networks.

Departures: depth follows from the image size, so that any size works; kernel 4 instead of 5, which leaves no
checkerboard; the critic sees real and generated images in separate batches, as later became customary; batches of 64
for 128; the generator is updated on the images that the critic has just been trained on, where Goodfellow's algorithm
draws fresh ones; samples come from a moving average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from latentforge.duel import Duel
from latentforge.game import Seat
from latentforge.nets import ConvCritic, ConvDecoder, normal_, published
from latentforge.parts.noise import Noise
from latentforge.registry import register


@register("dcgan")
class DCGAN(Duel):
    """Critic and generator, in turn.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the noise vector
        noise: uniform in [-1, 1] or standard normal
        net: networks of both players: dcgan (the paper's, any size), or those of an article
        critic_net: networks of the critic where they differ from net
        width: channels next to the image in both networks, doubled at every halving
    """

    batch_coupled = True
    seat = Seat(lr=2e-4, betas=(0.5, 0.999))

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 100,
        noise: Noise = "uniform",
        net: Literal["dcgan", "article-003", "article-004"] = "dcgan",
        critic_net: Literal["same", "dcgan", "article-003", "article-004"] = "same",
        width: int = 64,
        **rules,
    ):
        super().__init__(**rules)
        self.image_shape, self.latent_dim, self.noise = image_shape, latent_dim, noise
        if net == "article-003":
            self.generator = published.article_003_generator(latent_dim, image_shape)
        elif net == "article-004":
            self.generator = published.article_004_generator(latent_dim, image_shape)
        else:
            self.generator = normal_(nn.Sequential(ConvDecoder(latent_dim, image_shape, width, norm=True), nn.Tanh()))
        critic_net = net if critic_net == "same" else critic_net
        if critic_net == "article-003":
            self.critic = published.article_003_critic(image_shape)
        elif critic_net == "article-004":
            self.critic = published.article_004_critic(image_shape)
        else:
            self.critic = normal_(ConvCritic(image_shape, width, norm=True))
        self.generator, self.critic = self.with_dropout(self.generator), self.with_rules(self.critic)

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.generator(z)
