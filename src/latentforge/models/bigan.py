"""BiGAN / ALI: a GAN that learns to encode, by a critic that judges pairs of image and code.

Donahue, Krähenbühl & Darrell, "Adversarial Feature Learning", ICLR 2017, arXiv:1605.09782, equation 3, and Dumoulin et
al., "Adversarially Learned Inference", ICLR 2017, arXiv:1606.00704: the critic tells (x, E(x)) from (G(z), z); encoder
and generator together descend its loss with the roles exchanged. At the end of an ideal game E inverts G.
`encoder=stochastic` is ALI's, a Gaussian; `deterministic` BiGAN's.

Departures: the critic joins image features and code in dense layers of its own; no batch norm in the encoder; a small
R1 penalty (Mescheder et al. 2018, arXiv:1801.04406) every eighth round, for runs of minutes; samples come from a moving
average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latentforge import nets
from latentforge.duel import ENCODER, GENERATOR, Duel
from latentforge.game import Seat, Term
from latentforge.nets.joint import JointCritic
from latentforge.parts.adversarial import encoder_loss, generator_loss
from latentforge.parts.gaussian import Diagonal, Point
from latentforge.parts.likeness import mean_squared
from latentforge.parts.noise import Noise
from latentforge.registry import register


@register("bigan")
class BiGAN(Duel):
    """Critic of pairs, against encoder and generator together.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        noise: the prior of the code, uniform in [-1, 1] or standard normal
        net: mlp (dense) or conv
        hidden: widths of the dense generator; the encoder mirrors them (mlp)
        critic_hidden: widths of the critic: of its image part (mlp) and after image and code meet
        width: channels next to the image in the convolutional networks, doubled at every halving (conv)
        encoder: deterministic (BiGAN) or stochastic (ALI)
    """

    seat = Seat(lr=2e-4, betas=(0.5, 0.999))

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 32,
        noise: Noise = "normal",
        net: Literal["mlp", "conv"] = "conv",
        hidden: tuple[int, ...] = (512, 512),
        critic_hidden: tuple[int, ...] = (256, 256),
        width: int = 32,
        encoder: Literal["deterministic", "stochastic"] = "deterministic",
        *,
        r1: float = 0.1,
        penalty_every: int = 8,
        **rules,
    ):
        super().__init__(r1=r1, penalty_every=penalty_every, **rules)
        self.image_shape, self.latent_dim, self.noise = image_shape, latent_dim, noise
        self.stochastic = encoder == "stochastic"
        self.batch_coupled = net == "conv"
        out = latent_dim * (2 if self.stochastic else 1)
        self.encoder = nets.he_(nets.encoder(net, image_shape, out, hidden[::-1], width, 4))
        self.generator = self.with_dropout(nets.generator(net, latent_dim, image_shape, hidden, width, norm=True))
        self.critic = self.with_rules(nets.he_(JointCritic(net, image_shape, latent_dim, critic_hidden, width)))

    def players(self):
        return {"critic": [self.critic], "encoder": [self.encoder], "generator": [self.generator]}

    def play(self, data, t):
        for _ in range(self.critic_steps):
            x = self.to_network(next(data).image)  # (B, C, H, W)
            with torch.no_grad():
                real, fake = self.pairs(x, t)
            yield {"critic": self.critic_cost(real, fake, t)}
        for _ in range(self.generator_steps):
            made, drawn = (self.disguise(pair, t) for pair in self.pairs(x, t))
            a, b = self.verdict(*made), self.verdict(*drawn)
            loss = (generator_loss(b, self.loss, a) + encoder_loss(a, self.loss)).mean()
            t.log("generator", loss)
            yield {"encoder": loss, "generator": loss}

    def pairs(self, x: Tensor, t) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(x, E(x)) and (G(z), z), x in the networks' range."""
        q = self.posterior_of(x)
        z = self.start(t, len(x))
        return (x, q.sample(t.randn(len(x), self.latent_dim))), (self.generate(z), z)

    def posterior_of(self, x: Tensor) -> Diagonal | Point:
        h = self.encoder(x)
        return Diagonal(*h.chunk(2, 1)) if self.stochastic else Point(h)

    def encode(self, image: Tensor, y: Tensor | None = None) -> Diagonal | Point:
        return self.posterior_of(self.to_network(image.to(self.device)))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.generator(z)

    def evaluate(self, batch):
        x = self.to_network(batch.image)
        codes = self.posterior_of(x).mean
        z = self.draw_prior(len(x), torch.default_generator).to(x)
        error = mean_squared(self.to_unit(self.generate(codes)), batch.image)
        verdicts = {"critic_real_logit": self.judged(x, codes), "critic_fake_logit": self.judged(self.generate(z), z)}
        return {"reconstruction_mse": error, **verdicts}

    def objective(self):
        pairs = {"real": "x,E(x)", "fake": "G(z),z"}
        moves = [self.critic_terms(*pairs.values())] * self.critic_steps
        both = [Term(p, GENERATOR[self.loss].format(**pairs)) for p in ("encoder", "generator")]
        if self.loss in ENCODER:
            both += [Term(p, ENCODER[self.loss].format(real=pairs["real"])) for p in ("encoder", "generator")]
        return moves + [both] * self.generator_steps
