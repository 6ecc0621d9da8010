"""A GAN that learns to classify from few labels: a critic of K classes and one for what is generated.

Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, arXiv:1606.03498: the K + 1 classes of section 5, with
the last one's logit fixed to 0, and the generator's feature matching of section 3.1. The widths of dense networks, their noise
and weight norm are those of their code for MNIST (MIT licence).

Departures: p(y | x) of unlabelled images is also kept smooth (after Miyato et al. 2018, arXiv:1704.03976, see
`parts/smooth.py`; here around a shifted copy as well), certain, and in the mean as the labels are (`--smooth`, `--shift`,
`--certain`, `--balance`; all 0 is the paper's objective). The convolutional critic is ours; its batch norm norms images and
samples apart where their features are matched, so that brightness and contrast of the whole batch are for the critic's costs
alone to tell. Rates of 1e-3 (theirs 3e-3) fall to 0 with the budget; weights begin as torch draws them, where the paper's begin
so that each unit has mean 0 and variance 1 on a batch of data, and all gains of weight norm are learned (theirs in the last
layer alone); z is uniform in [-1, 1] (theirs in [0, 1]); the generator has no weight norm and gains in its batch norm; half as
many labelled and generated images as unlabelled ones in a batch; classes and samples come from a moving average of the
weights (`--ema 0` for none).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latentforge.game import Seat, Term, frozen
from latentforge.nets.classifier import Classifier, SoftGenerator
from latentforge.parts.matching import matched, unsupervised_cost, unsupervised_terms
from latentforge.parts.noise import Noise, draw_noise
from latentforge.registry import register
from latentforge.semi import SemiSupervised


@register("ssl-gan")
class SSLGAN(SemiSupervised):
    """Critic and generator, in turn.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the noise vector, uniform in [-1, 1]
        net: the critic's: mlp (dense, any shape) or conv
        hidden: widths of the generator
        critic_hidden: widths of the dense critic; the convolutional one has the last of them
        width: channels of the convolutional critic's first layer, doubled at every halving (conv)
        layer_noise: standard deviation of the noise on the input of each hidden layer
        input_noise: standard deviation of the noise on the image
        matching: weight of the unsupervised real/generated loss
    """

    batch_coupled = True  # batch norm, and means over the batch
    seat = Seat(lr=1e-3, betas=(0.5, 0.999))
    has_prior_density = False
    unworried = ("mode collapse",)  # features match in the mean: what is generated need not vary

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 100,
        net: Literal["mlp", "conv"] = "conv",
        hidden: tuple[int, ...] = (500, 500),
        critic_hidden: tuple[int, ...] = (1000, 500, 250, 250, 250),
        width: int = 16,
        layer_noise: float = 0.5,
        input_noise: float = 0.3,
        matching: float = 1.0,
        **options,
    ):
        super().__init__(**options)
        self.image_shape, self.latent_dim, self.matching = image_shape, latent_dim, matching
        self.generator = SoftGenerator(latent_dim, image_shape, hidden)
        self.critic = Classifier(net, image_shape, self.num_classes, critic_hidden, width, layer_noise, input_noise)

    def players(self):
        return {"critic": [self.critic], "generator": [self.generator]}

    def play(self, data, t):
        x = next(data).image  # (B, C, H, W), labels unknown
        half = -(-len(x) // 2)
        known, y = self.draw_known(half, t)
        with torch.no_grad():
            fake = self.generate(draw_noise(self.prior_noise, t, half, self.latent_dim))
        labelled, real, made = self.critic(torch.cat([known, x, fake])).split([half, len(x), half])
        cost = self.labelled_cost(labelled, y, t) + self.unlabelled_cost(x, real, t)
        yield {"critic": cost + self.matching * unsupervised_cost(real, made, t)}
        fake = self.generate(draw_noise(self.prior_noise, t, half, self.latent_dim))
        gap = matched(frozen(self.critic.body), x, fake)
        t.log("generator", gap)
        yield {"generator": gap}

    def class_logits(self, x: Tensor) -> Tensor:
        return self.critic(x)

    def critic_eyes(self):
        return self.critic.eyes(), None

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.generator(z).float())

    @property
    def prior_noise(self) -> Noise:
        return "uniform"

    def evaluate(self, batch):
        return self.class_measures(batch)

    def objective(self):
        generator = Term("generator", "||E h(x) - E h(G(z))||^2,  h the critic's last hidden layer")
        return [[*self.class_terms("critic"), *unsupervised_terms("critic", "G(z)", self.matching)], [generator]]
