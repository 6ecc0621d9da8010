"""A VAE-GAN that learns to classify from few labels: the generator of ssl-gan is the decoder of a VAE.

Article 002 (docs/articles.md) names the use and gives the objective, L_VAE + lambda L_GAN with the decoder as generator; the
critic and what the decoder descends of it are those of Salimans et al. 2016, arXiv:1606.03498 (sections 3.1 and 5), as in
`ssl-gan`.

Departures: the article says nothing of how labels come in: here the critic has their K classes and one for what is decoded.
The article's adversarial loss is replaced by feature matching; its Gaussian p(x | z) by Bernoulli. `--smooth`, `--shift`,
`--certain` and `--balance` as in `ssl-gan`. Classes and samples come from a moving average of the weights (`--ema 0` for
none).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from latentforge.game import Seat, Term, frozen
from latentforge.nets import MLPEncoder
from latentforge.nets.classifier import Classifier, SoftGenerator
from latentforge.parts.gaussian import Diagonal
from latentforge.parts.likelihood import bernoulli_nll, elbo_measures
from latentforge.parts.matching import matched, unsupervised_cost, unsupervised_terms
from latentforge.registry import register
from latentforge.semi import SemiSupervised


@register("ssl-vae-gan")
class SSLVAEGAN(SemiSupervised):
    """Critic; then encoder and decoder together.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        net: the critic's: mlp (dense, any shape) or conv
        hidden: widths of the dense encoder; the decoder mirrors them
        critic_hidden: widths of the dense critic; the convolutional one has the last of them
        width: channels of the convolutional critic's first layer, doubled at every halving (conv)
        layer_noise: standard deviation of the noise on the input of each of the critic's hidden layers
        input_noise: standard deviation of the noise on the image
        matching: weight of the unsupervised real/generated loss
        elbo: weight of the VAE's loss, in nats per pixel, against 1 for feature matching
    """

    batch_coupled = True  # batch norm, and means over the batch
    seat = Seat(lr=1e-3, betas=(0.5, 0.999))

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 50,
        net: Literal["mlp", "conv"] = "conv",
        hidden: tuple[int, ...] = (500, 500),
        critic_hidden: tuple[int, ...] = (1000, 500, 250, 250, 250),
        width: int = 16,
        layer_noise: float = 0.5,
        input_noise: float = 0.3,
        matching: float = 1.0,
        elbo: float = 0.1,
        **options,
    ):
        super().__init__(**options)
        self.image_shape, self.latent_dim, self.matching, self.elbo = image_shape, latent_dim, matching, elbo
        self.encoder = MLPEncoder(image_shape, 2 * latent_dim, hidden)
        self.decoder = SoftGenerator(latent_dim, image_shape, hidden[::-1])
        self.critic = Classifier(net, image_shape, self.num_classes, critic_hidden, width, layer_noise, input_noise)

    def players(self):
        return {"critic": [self.critic], "encoder": [self.encoder], "decoder": [self.decoder]}

    def play(self, data, t):
        x = next(data).image  # (B, C, H, W), labels unknown
        half = -(-len(x) // 2)
        known, y = self.draw_known(half, t)
        with torch.no_grad():
            fake = self.generate(t.randn(half, self.latent_dim))
        labelled, real, made = self.critic(torch.cat([known, x, fake])).split([half, len(x), half])
        cost = self.labelled_cost(labelled, y, t) + self.unlabelled_cost(x, real, t)
        yield {"critic": cost + self.matching * unsupervised_cost(real, made, t)}
        q = self.encode(x)
        z = torch.cat([q.sample(t.randn(len(x), self.latent_dim)), t.randn(half, self.latent_dim)])
        rebuilt, fresh = self.decoder(z).split([len(x), half])
        nll, kl = bernoulli_nll(rebuilt, x).mean(), q.kl().mean()
        gap = matched(frozen(self.critic.body), x, torch.sigmoid(fresh.float()))
        loss = gap + self.elbo * (nll + kl) / math.prod(self.image_shape)
        for name, value in (("reconstruction_nats", nll), ("kl_nats", kl), ("generator", gap)):
            t.log(name, value)
        yield {"encoder": loss, "decoder": loss}

    def class_logits(self, x: Tensor) -> Tensor:
        return self.critic(x)

    def critic_eyes(self):
        return self.critic.eyes(), None

    def encode(self, image: Tensor, y: Tensor | None = None) -> Diagonal:
        return Diagonal(*self.encoder(image.to(self.device)).chunk(2, 1))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(z).float())

    def reconstruction_nll(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return bernoulli_nll(self.decoder(z), x)

    def evaluate(self, batch):
        return self.class_measures(batch) | elbo_measures(self, batch.image)

    def objective(self):
        critic = [*self.class_terms("critic"), *unsupervised_terms("critic", "G(z)", self.matching)]
        vae = ["-log p(x|z),  z ~ q(z|x)", "KL(q(z|x) || N(0, I))"]
        weight = self.elbo / math.prod(self.image_shape)
        rest = [
            [Term(player, formula, weight) for formula in vae]
            + [Term(player, "||E h(x) - E h(G(z))||^2,  h the critic's last hidden layer")]
            for player in ("encoder", "decoder")
        ]
        return [critic, rest[0] + rest[1]]
