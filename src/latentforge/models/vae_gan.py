"""VAE-GAN: a VAE whose decoder also plays against a critic, and whose likeness is measured in the critic's features.

Larsen, Sonderby, Larochelle & Winther, "Autoencoding beyond pixels using a learned similarity metric", ICML 2016,
arXiv:1512.09300, Algorithm 1; reference code andersbll/autoencoding_beyond_pixels (MIT). With x~ = G(z), z ~ q(z|x),
x_p = G(z_p), z_p ~ p(z), and the critic's features D_l:

    P = beta KL(q(z|x) || p(z))        R = 1/2 ||D_l(x) - D_l(x~)||^2        A = log D(x) + log(1 - D(x~)) + log(1 - D(x_p))
    encoder descends P + R             decoder descends gamma R + A          critic descends -A

`objective=sum` is article 002's L_VAE + lambda L_GAN in one move, `in-turn` its order critic, generator, VAE.

Departures: the decoder descends -log D by default instead of ascending the critic's loss (`adversarial=minimax` is the
published form); a player sits out by running averages of the critic's costs instead of by the batch in hand (the
margin, .35 as released and .5 here, lies around the costs of an even game: ln 2 for one kind of fakes, ln 3 and ln 3/2
for both); by default likeness is mostly that of pixels (`pixel`, Bernoulli) and a little that of features (`feature`;
0 and 1 are the published form), which keeps reconstructions true and the KL moderate; codes to sample from come from a
Gaussian mixture fitted after training (`--sampler prior` for N(0, I)); no batch norm unless `net=larsen`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from latentforge import nets
from latentforge.game import Game, Seat, leave_out
from latentforge.nets import published
from latentforge.parts.adversarial import GeneratorLoss, critic_loss, generator_loss
from latentforge.parts.gaussian import Diagonal
from latentforge.parts.likelihood import bernoulli_nll
from latentforge.registry import register

MEMORY = 0.9  # of the running averages the gates look at, per round


@register("vae-gan")
class VAEGAN(Game):
    """Encoder, decoder and critic.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        net: mlp (dense), conv (any size), or larsen (the released networks)
        hidden: widths of the dense networks
        width: channels of the first convolution, doubled at every halving
        objective: larsen (Algorithm 1), sum (L_VAE + lambda L_GAN in one move), in-turn (critic, generator, VAE)
        fakes: what the critic is shown as fake: samples of the prior, reconstructions, or both
        adversarial: what the decoder descends, -log D or log(1 - D)
        beta: weight of the KL term
        gamma: weight of likeness against the critic in the decoder's loss (larsen)
        feature: weight of R, the likeness in the critic's features; 1 is the published form (larsen)
        pixel: weight of the likeness in pixels (Bernoulli, nats); 0 is the published form (larsen)
        weight: lambda, the weight of the critic's verdict beside L_VAE (sum, in-turn)
        margin: a player sits out when the critic's running cost leaves an even game's by more; 0 for never (larsen)
    """

    sampler_kind = "gmm"
    critic_cost: Tensor
    even_cost: Tensor
    critic: Any

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 20,
        net: Literal["mlp", "conv", "larsen"] = "conv",
        hidden: tuple[int, ...] = (512,),
        width: int = 32,
        objective: Literal["larsen", "sum", "in-turn"] = "larsen",
        fakes: Literal["both", "prior", "reconstructions"] = "both",
        adversarial: GeneratorLoss = "nonsaturating",
        beta: float = 1.0,
        gamma: float = 0.1,
        feature: float = 0.1,
        pixel: float = 1.0,
        weight: float = 10.0,
        margin: float = 0.5,
    ):
        super().__init__()
        self.image_shape, self.latent_dim, self.objective = image_shape, latent_dim, objective
        self.fakes, self.adversarial, self.margin = fakes, adversarial, margin
        self.beta, self.gamma, self.feature, self.pixel, self.weight = beta, gamma, feature, pixel, weight
        self.batch_coupled = net == "larsen"
        if net == "larsen":
            self.encoder = published.larsen_encoder(image_shape, 2 * latent_dim)
            self.decoder = published.larsen_decoder(latent_dim, image_shape)
            self.critic = published.larsen_critic(image_shape)
        else:
            self.encoder = nets.encoder(net, image_shape, 2 * latent_dim, hidden, width, 4)
            self.decoder = nets.decoder(net, latent_dim, image_shape, hidden, width, 4)
            dense = net == "mlp"
            self.critic = nets.MLPCritic(image_shape, hidden) if dense else nets.ConvCritic(image_shape, width)
        # the critic's cost on real and on fake images in an even game: k kinds of fakes for each real image, D = 1/(1+k)
        k = 2.0 if fakes == "both" and objective == "larsen" else 1.0
        self.register_buffer("even_cost", torch.tensor([1 + k, (1 + k) / k]).log(), persistent=False)
        self.register_buffer("critic_cost", self.even_cost.clone())  # its running average

    def players(self):
        return {"encoder": [self.encoder], "decoder": [self.decoder], "critic": [self.critic]}

    def seats(self):
        vae = Seat(lr=1e-3, betas=(0.9, 0.999))
        return {"encoder": vae, "decoder": vae, "critic": Seat(lr=2e-4, betas=(0.5, 0.999))}

    def play(self, data, t):
        yield from {"larsen": self.larsen, "sum": self.sum, "in-turn": self.in_turn}[self.objective](data, t)

    def larsen(self, data, t):
        """Algorithm 1: one move of three players, each with its own loss."""
        x = next(data).image  # (B, C, H, W)
        n = len(x)
        q, logits = self.rebuild(x, t)
        prior = self.generate(t.randn(n, self.latent_dim))
        verdict, features = self.critic.features(torch.cat([x, torch.sigmoid(logits), prior]))
        real, rebuilt, sampled = verdict.split(n)
        likeness = 0.5 * (features[:n] - features[n : 2 * n]).float().square().flatten(1).sum(1).mean()
        alike = self.feature * likeness + self.pixel * bernoulli_nll(logits, x).mean()
        kinds = {"both": [rebuilt, sampled], "prior": [sampled], "reconstructions": [rebuilt]}[self.fakes]
        shown = torch.stack(kinds)  # (kinds of fakes, B)
        real_cost, fake_cost = critic_loss(real, shown)
        kl = q.kl_per_dimension().sum(1).mean()
        fool = generator_loss(shown, self.adversarial).sum(0).mean()
        self.report(t, kl_nats=kl, likeness=likeness, critic_real=real_cost, critic_fake=fake_cost, fool=fool)
        move = {
            "encoder": self.beta * kl + alike,
            "decoder": self.gamma * alike + fool,
            "critic": real_cost.mean() + fake_cost.sum(0).mean(),
        }
        out = self.sitting_out()
        t.log("critic_sits_out", "critic" in out)
        t.log("decoder_sits_out", "decoder" in out)
        yield leave_out(move, *out)

    def sum(self, data, t):
        """Article 002, section 3.1: encoder and decoder descend L_VAE + lambda L_GAN, the critic ascends L_GAN."""
        x = next(data).image
        q, logits = self.rebuild(x, t)
        real, fake = self.critic(x), self.critic(self.generate(t.randn(len(x), self.latent_dim)))
        real_cost, fake_cost = critic_loss(real, fake)
        loss = self.elbo_loss(q, logits, x) + self.weight * generator_loss(fake, self.adversarial).mean()
        self.report(t, loss=loss, critic_real=real_cost, critic_fake=fake_cost)
        yield {"encoder": loss, "decoder": loss, "critic": real_cost.mean() + fake_cost.mean()}

    def in_turn(self, data, t):
        """Article 002, section 3.2: the critic, then the generator, then the VAE, each seeing the steps before."""
        x = next(data).image
        with torch.no_grad():
            fake = self.generate(t.randn(len(x), self.latent_dim))
        real_cost, fake_cost = critic_loss(self.critic(x), self.critic(fake))
        yield {"critic": real_cost.mean() + fake_cost.mean()}
        fool = generator_loss(self.critic(self.generate(t.randn(len(x), self.latent_dim))), self.adversarial).mean()
        yield {"decoder": self.weight * fool}
        q, logits = self.rebuild(x, t)
        loss = self.elbo_loss(q, logits, x)
        self.report(t, loss=loss, critic_real=real_cost, critic_fake=fake_cost, fool=fool)
        yield {"encoder": loss, "decoder": loss}

    def rebuild(self, x: Tensor, t) -> tuple[Diagonal, Tensor]:
        """The posterior, and the logits of a reconstruction from one sample of it."""
        q = self.encode(x)
        return q, self.decoder(q.sample(t.randn(len(x), self.latent_dim)))

    def elbo_loss(self, q: Diagonal, logits: Tensor, x: Tensor) -> Tensor:
        """L_VAE in nats, mean over the batch."""
        return bernoulli_nll(logits, x).mean() + self.beta * q.kl_per_dimension().sum(1).mean()

    def report(self, t, **values: Tensor) -> None:
        for name, value in values.items():
            t.log(name, value)

    def sitting_out(self) -> list[str]:
        """Who sits out (released code): the critic where it wins on either kind of image, the decoder where the critic
        loses; nobody where both would."""
        if not self.margin:
            return []
        critic = bool((self.critic_cost < self.even_cost - self.margin).any())
        decoder = bool((self.critic_cost > self.even_cost + self.margin).any())
        return [] if critic and decoder else ["critic"] * critic + ["decoder"] * decoder

    def settle(self, t):
        now = torch.stack([t.seen["critic_real"], t.seen["critic_fake"]])
        if now.isfinite().all():  # a bad step must not blind the gates for good
            self.critic_cost.lerp_(now, 1 - MEMORY)

    def encode(self, image: Tensor) -> Diagonal:
        mean, log_variance = self.encoder(image).chunk(2, 1)
        return Diagonal(mean, log_variance)

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(z))

    def evaluate(self, batch):
        x = batch.image
        q = self.encode(x)
        nll = bernoulli_nll(self.decoder(q.sample(torch.randn(len(x), self.latent_dim).to(x.device))), x)
        kl = q.kl_per_dimension().sum(1)
        mse = (self.generate(q.mean) - x).square().flatten(1).mean(1)
        return {"loss_nats": nll + kl, "nll_nats": nll, "kl_nats": kl, "reconstruction_mse": mse}
