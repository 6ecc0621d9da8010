"""Joint VAE and GAN in alternating phases, with a learned prior over codes (article 000).

A prior generator G turns uniform noise u into codes. GAN phase: a critic tells pairs (x, z), z ~ q(z|x), from
(decoder(G(u)), G(u)), and G learns to fool it; encoder and decoder rest. VAE phase: first the encoder learns from what
the generator made, -log q(z*|x*) for z* = G(u), x* = decoder(z*), which is its starting point; then encoder and decoder
descend the VAE's loss on images, while G and critic rest. Phases alternate until the loss of the VAE phases has not
fallen by a share `tolerance` in `patience` of them, or the budget is spent. Samples are decoder(G(u)).

The generator's loss is the article's: log(1 - s(D)) (`loss`), plus KL(q(z|x) || p(z)), and it steps only where L > log tau.
D is the critic's logit, s the sigmoid.

Departures: the article gives formulas without shapes, and some cannot be meant literally. p(z) in the generator's KL is
the Gaussian of the generator's own codes, without which the term would not depend on it. L is
E log s(D(x, z)) - E log s(D(x*, z*)), how far apart the critic holds the two; the article's log(1 - s(D(x*))) would stop the
generator where it loses. What it makes becomes "the VAE's initial values": the pairs the encoder learns from first.
Convolutional networks by default; `--preset mnist/joint-vae-gan` has the article's sizes. Samples come from a moving
average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from latentforge import nets
from latentforge.duel import GENERATOR, Duel
from latentforge.game import Seat, Term
from latentforge.nets.joint import JointCritic
from latentforge.nets.mlp import MLPEncoder
from latentforge.parts.adversarial import Loss
from latentforge.parts.gaussian import Diagonal, kl_between
from latentforge.parts.likelihood import bernoulli_nll, elbo_measures
from latentforge.parts.noise import draw_noise
from latentforge.parts.phases import UNKNOWN, Phases
from latentforge.registry import register

GAN_PHASE = 0  # the first phase; the second is the VAE's
MEMORY = 0.9  # of the running average of L, per round


@register("joint-vae-gan")
class JointVAEGAN(Duel):
    """Encoder, decoder, prior generator and critic of pairs, in two phases.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        net: mlp (dense) or conv
        hidden: widths of the dense encoder; the decoder mirrors them (mlp)
        critic_hidden: widths of the critic
        width: channels of the first convolution, doubled at every halving (conv)
        noise_dim: size of the generator's noise, uniform in [-1, 1]
        generator_hidden: widths of the prior generator
        gan_rounds: rounds of a GAN phase
        vae_rounds: rounds of a VAE phase
        start_rounds: of these, how many first ones train the encoder on generated images
        kl: weight of the KL term in the generator's loss
        tau: the generator is updated only while the critic separates the two kinds of pairs by more than log tau
            (docs/models/joint-vae-gan.md)
        tolerance: share by which the VAE phases' loss must fall to count as falling
        patience: VAE phases without such a fall before training ends; 0 to go on to the end of the budget
    """

    pixel_range = (0.0, 1.0)
    noise = "uniform"
    has_prior_density = False
    gap: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 20,
        net: Literal["mlp", "conv"] = "conv",
        hidden: tuple[int, ...] = (512,),
        critic_hidden: tuple[int, ...] = (256, 256),
        width: int = 32,
        noise_dim: int = 64,
        generator_hidden: tuple[int, ...] = (512,),
        gan_rounds: int = 100,
        vae_rounds: int = 200,
        start_rounds: int = 5,
        kl: float = 0.1,
        tau: float = 1.0,
        tolerance: float = 0.001,
        patience: int = 5,
        *,
        loss: Loss = "minimax",
        **rules,
    ):
        super().__init__(loss=loss, **rules)
        if start_rounds >= vae_rounds:
            raise ValueError(f"start_rounds {start_rounds} leaves nothing of the {vae_rounds} rounds of a VAE phase")
        self.image_shape, self.latent_dim, self.noise_dim = image_shape, latent_dim, noise_dim
        self.start_rounds = start_rounds
        self.batch_coupled = kl > 0  # the generator's mean and variance are those of a batch
        self.kl_weight, self.log_tau = kl, math.log(tau)
        self.encoder = nets.encoder(net, image_shape, 2 * latent_dim, hidden, width, 4)
        self.decoder = nets.decoder(net, latent_dim, image_shape, hidden, width, 4)
        self.generator = self.with_dropout(MLPEncoder((noise_dim, 1, 1), latent_dim, generator_hidden))
        self.critic = self.with_rules(JointCritic(net, image_shape, latent_dim, critic_hidden, width))
        self.phases = Phases((gan_rounds, vae_rounds), tolerance, patience)
        self.register_buffer("gap", torch.tensor(UNKNOWN))

    def meet(self, data):
        """A training begins with the first phase, whatever one before it had come to."""
        super().meet(data)
        self.phases.begin()
        self.gap.fill_(UNKNOWN)

    def players(self):
        return {name: [getattr(self, name)] for name in ("encoder", "decoder", "generator", "critic")}

    def seats(self):
        against = Seat(lr=2e-4, betas=(0.5, 0.999))
        return {"encoder": Seat(), "decoder": Seat(), "generator": against, "critic": against}

    def play(self, data, t):
        if int(self.phases.phase) == GAN_PHASE:
            yield from self.gan_round(data, t)
        elif int(self.phases.rounds) < self.start_rounds:
            with torch.no_grad():
                codes = self.generator(self.start(t, len(next(data))))
                images = self.generate(codes)
            loss = -self.encode(images).log_prob(codes).mean()
            t.log("start", loss)
            yield {"encoder": loss}
        else:
            x = next(data).image  # (B, C, H, W)
            q = self.encode(x)
            nll = self.reconstruction_nll(q.sample(t.randn(len(x), self.latent_dim)), x)
            loss = nll.mean() + q.kl().mean()
            t.log("loss", loss)
            yield {"encoder": loss, "decoder": loss}

    def gan_round(self, data, t):
        for _ in range(self.critic_steps):
            x = next(data).image
            with torch.no_grad():
                q = self.encode(x)
                real = (x, q.sample(t.randn(len(x), self.latent_dim)))
                z = self.generator(self.start(t, len(x)))
                fake = (self.generate(z), z)
            yield {"critic": self.critic_cost(real, fake, t)}
        with torch.no_grad():
            a, b = self.verdict(*real).float(), self.verdict(*fake).float()
            t.log("gap", torch.nn.functional.logsigmoid(a).mean() - torch.nn.functional.logsigmoid(b).mean())
        t.log("generator_sits_out", bool(self.gap <= self.log_tau))
        for _ in range(self.generator_steps * bool(self.gap > self.log_tau)):
            z = self.generator(self.start(t, len(x)))
            cost = self.generator_cost(real, (self.generate(z), z), t)
            own = z.float().var(0, correction=int(len(z) > 1)) + 1e-6  # of p(z), the generator's Gaussian
            kl = kl_between(q.mean, q.tril(), z.float().mean(0)[None], torch.diag(own.sqrt())[None]).mean()
            t.log("generator_kl", kl)
            yield {"generator": cost + self.kl_weight * kl}

    def start(self, t, n: int) -> Tensor:
        return draw_noise(self.noise, t, n, self.noise_dim)

    def settle(self, t):
        if "gap" in t.means and t.means["gap"].isfinite():
            self.gap.copy_(torch.where(self.gap == UNKNOWN, t.means["gap"], self.gap.lerp(t.means["gap"], 1 - MEMORY)))
        self.phases.note(t.means.get("loss"))

    @property
    def converged(self) -> bool:  # type: ignore[override]
        return self.phases.converged

    def encode(self, image: Tensor, y: Tensor | None = None) -> Diagonal:
        return Diagonal(*self.encoder(image.to(self.device)).chunk(2, 1))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(z))

    def reconstruction_nll(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return bernoulli_nll(self.decoder(z), x)

    @torch.no_grad()
    def draw_prior(self, n: int, generator: torch.Generator) -> Tensor:
        return self.generator(draw_noise(self.noise, generator, n, self.noise_dim).to(self.device)).float().cpu()

    def evaluate(self, batch):
        return elbo_measures(self, batch.image)

    def objective(self):
        pair, made = "x,z", "decoder(G(u)),G(u)"
        fool = [
            Term("generator", GENERATOR[self.loss].format(real=pair, fake=made) + "  where L > log tau (GAN phase)"),
            Term("generator", "KL(q(z|x) || N(mean, variance of G(u)))", self.kl_weight),
        ]
        gan = [self.critic_terms(pair, made)] * self.critic_steps + [fool] * self.generator_steps
        elbo = "-log p(x|z) (bernoulli, nats) + KL(q(z|x) || N(0, I))  (VAE phase)"
        return [
            *gan,
            [Term("encoder", "-log q(z*|x*)  (start of the VAE phase)")],
            [Term("encoder", elbo), Term("decoder", elbo)],
        ]
