"""Boundary equilibrium GAN: the critic is an autoencoder.

Berthelot, Schumm & Metz, "BEGAN: Boundary Equilibrium Generative Adversarial Networks", 2017, arXiv:1703.10717, section
3.4. With L(v) = mean |v - D(v)|, the critic descends L(x) - k L(G(z)) and the generator L(G(z)); after every round
k moves by lambda (gamma L(x) - L(G(z))) within [0, 1]. gamma = E L(G(z)) / E L(x) trades diversity (high) for quality
(low). M = L(x) + |gamma L(x) - L(G(z))| measures convergence: `convergence` in stats.jsonl, beside `k`.

Departures: critic and generator are updated on the same generated images, where theirs draw apart; dense networks by
default, or strided convolutions instead of nearest-neighbour upsampling and pooling, which collapsed in short trials on
digits; batches of 64 (theirs 16); for runs of minutes a rate of 5e-4 that falls to 0 (theirs 1e-4, halved on the way)
and lambda .01 (.001); gamma .9 and a long moving average of the weights: without them, digits with thick or long
strokes were drawn too rarely.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from latentforge import nets
from latentforge.game import Game, Seat, Term
from latentforge.parts.noise import Noise, draw_noise
from latentforge.registry import register


@register("began")
class BEGAN(Game):
    """An autoencoder as critic, and a generator built like its decoder, in one move.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the noise vector, and of the critic's code
        noise: uniform in [-1, 1] or standard normal
        net: mlp (dense) or conv
        hidden: widths of the dense critic's encoder; its decoder and the generator mirror them (mlp)
        width: channels next to the image in the convolutional networks, doubled at every halving (conv)
        gamma: error on generated images over error on real ones at equilibrium, in [0, 1]
        proportional_gain: lambda, how fast k moves
    """

    pixel_range = (-1.0, 1.0)
    batch_size = 64
    schedule = "linear"
    seat = Seat(lr=5e-4, betas=(0.5, 0.999), ema=100_000)
    k: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 32,
        noise: Noise = "uniform",
        net: Literal["mlp", "conv"] = "mlp",
        hidden: tuple[int, ...] = (512,),
        width: int = 32,
        gamma: float = 0.9,
        proportional_gain: float = 0.01,
    ):
        super().__init__()
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma {gamma:g} is a ratio; give a number from 0 to 1")
        self.image_shape, self.latent_dim, self.noise = image_shape, latent_dim, noise
        self.gamma, self.proportional_gain = gamma, proportional_gain
        made = [nets.decoder(net, latent_dim, image_shape, hidden, width, 4) for _ in range(2)]
        self.generator = nets.he_(made[0])
        self.critic = nets.he_(nn.Sequential(nets.encoder(net, image_shape, latent_dim, hidden, width, 4), made[1]))
        self.register_buffer("k", torch.zeros(()))

    def players(self):
        return {"critic": [self.critic], "generator": [self.generator]}

    def play(self, data, t):
        x = self.to_network(next(data).image)  # (B, C, H, W)
        fake = self.generate(draw_noise(self.noise, t, len(x), self.latent_dim))
        real_error, fake_error = self.error(x).mean(), self.error(fake).mean()
        balance = self.gamma * real_error - fake_error
        t.log("error_real", real_error)
        t.log("error_fake", fake_error)
        t.log("convergence", real_error + balance.abs())
        t.log("k", self.k)
        yield {"critic": real_error - self.k * fake_error, "generator": fake_error}

    def error(self, v: Tensor) -> Tensor:
        """L(v), (B,): the critic's reconstruction error."""
        return (v.float() - self.critic(v).float()).abs().flatten(1).mean(1)

    def critic_eyes(self):
        return self.critic.get_submodule("0"), None

    def settle(self, t):
        move = self.proportional_gain * (self.gamma * t.means["error_real"] - t.means["error_fake"])
        if move.isfinite():
            self.k.add_(move).clamp_(0, 1)

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.tanh(self.generator(z))

    @property
    def prior_noise(self) -> Noise:
        return self.noise

    def evaluate(self, batch):
        z = self.draw_prior(len(batch), torch.default_generator).to(batch.image.device)
        real, fake = self.error(self.to_network(batch.image)), self.error(self.generate(z))
        return {"critic_real_error": real, "critic_fake_error": fake}

    def objective(self):
        return [[
            Term("critic", "L(x),  L(v) = mean |v - D(v)|"),
            Term("critic", f"-k L(G(z)),  k from 0 by {self.proportional_gain:g} ({self.gamma:g} L(x) - L(G(z)))"),
            Term("generator", "L(G(z))"),
        ]]  # fmt: skip
