"""VAE-GAN in two stages: a VAE learns codes, then its decoder plays against a critic.

Stage 0 is the VAE of Kingma & Welling 2014. Stage 1 begins from the averaged weights: the encoder rests, the sampler is
fitted to its codes (Ghosh et al. 2020, arXiv:1903.12436, section 4), and in every round the critic D compares images x
with G(z), where a share `mix` of the codes z is that of images, z ~ q(z|x), and the rest is drawn from the sampler. D is
the critic's logit, s the sigmoid. The game is one of two. For small grey images R3GAN's (Huang et al. 2024,
arXiv:2501.05441, equation 2): all codes are those of images; penalties only above 28 x 28 grey:

    critic     softplus(D(G(z)) - D(x)) + r1/2 ||grad D(x)||^2 + r2/2 ||grad D(G(z))||^2
    generator  softplus(D(x) - D(G(z))) - pixel log p(x|z)      the second term for z ~ q(z|x) alone

where both step at once; or that of DCGAN (Radford et al. 2016, arXiv:1511.06434), with batch norm in decoder and critic
instead of penalties, where they step in turn:

    critic     -log s(D(x)) - log(1 - s(D(G(z))))
    generator  -log s(D(G(z))) - pixel log p(x|z)

Departures: from the VAE-GAN of Larsen et al. 2016, arXiv:1512.09300, whose own game is `larsen-vae-gan`: the losses are
minimised one after the other, so that no critic moves the codes, which keep the meaning that the VAE gave them; the
reconstruction term is that of pixels and not of the critic's features; codes to sample from follow a density fitted to
those of images instead of the prior, and so do those beside the images' own that the critic sees where `mix` < 1.
From R3GAN: no penalties up to 28 x 28 grey, and above that in every eighth round with eight times the weight; plain
convolutions for residual ones; a rate of 4e-3 over the root of values / 784 that falls to 0, for theirs of 2e-4. From
DCGAN: a rate of up to 8e-4 that falls to 0, for theirs of 2e-4; batches of 64 or 32 for 128; kernels of 4 for 5; part
of the codes are encoded images. Both keep the reconstruction term, and below 2,500 images the critic sees all of them
shifted and cut (`--augment auto`), codes are small and stage 0 is long (`suited_to`), and in DCGAN's game that term is
weak and rates do not fall (`meet`). Images reach black and white, which the Bernoulli's mean only approaches: the
sigmoid is stretched a little over [0, 1] and cut there, but not inside log p(x|z). Samples come from a moving average of
the weights (`--ema 0` for none).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from latentforge import nets
from latentforge.duel import GENERATOR, Duel
from latentforge.game import Seat, Term
from latentforge.parts import games
from latentforge.parts.adversarial import Loss, generator_loss, reverse
from latentforge.parts.augment import FEW, Augment
from latentforge.parts.gaussian import Diagonal
from latentforge.parts.likelihood import bernoulli_nll, elbo_measures
from latentforge.registry import register
from latentforge.schedules import Schedule

POOL = 50_000  # codes that the sampler draws once, for all of stage 1
POOL_SEED = 0x9001  # of that draw alone, so that samples asked for later under a small seed are others


@register("vae-gan")
class VAEGAN(Duel):
    """Encoder, decoder and critic.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code; default: 16 up to 28 x 28 grey, then in step with the values of an image (C H W), up
            to 64; trained on fewer than 2,500 images, up to 20
        game: kind of GAN in stage 1: r3gan (relativistic, no norm) or dcgan (batch norm); default: r3gan below
            1,568 values per image (C x H x W), else dcgan
        net: encoder and decoder: mlp (dense) or conv (any size)
        critic_net: critic: mlp or conv
        hidden: widths of the dense networks (mlp)
        width: channels of the first convolution of encoder and decoder, doubled at every halving (conv); default: 32
            (r3gan), 64 up to 45 pixels a side, 32 up to 90, then 16 (dcgan)
        wide: widths of the dense layers before the decoder's convolutions, `,` for none; default: 512 (r3gan), none
            (dcgan)
        critic_width: width of the critic; default: that of encoder and decoder
        beta: weight of the KL term
        share: share of the budget for stage 0, the VAE; 1 for a plain VAE; default: .25 (r3gan), .1 (dcgan; trained on fewer
            than 2,500 images, .25)
        mix: share of the codes in stage 1 that are encoded training images, the others come from the sampler; default: 1
            (r3gan), .3 (dcgan)
        pixel: weight of the reconstruction term in stage 1 (Bernoulli, nats), against 1 for the adversarial one; default:
            .02 (r3gan), .2 over the root of values / 784 (dcgan; trained on fewer than 2,500 images, a fifth of that)
        stretch: the decoder's output is scaled by 1 + 2 x this about .5 and clipped to [0, 1]; not used with --share 1
        loss: loss of critic and generator in stage 1; default: relativistic (r3gan), nonsaturating (dcgan)
        r1: weight of half the critic's squared gradient at real images; default: 0; with r3gan above 28 x 28
            grey .003 (values / 784)^1.5
        r2: the same at generated images; default: as r1
    """

    pixel_range = (0.0, 1.0)
    sampler_kind = "gmm"
    schedule: Schedule = "cosine"
    shared: ClassVar = {"decoder."}  # stepped as `decoder` in stage 0 and as `generator` in stage 1, by two optimisers

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int | None = None,
        game: Literal["r3gan", "dcgan"] | None = None, net: Literal["mlp", "conv"] = "conv",
        critic_net: Literal["mlp", "conv"] = "conv", hidden: tuple[int, ...] = (512,), width: int | None = None,
        wide: tuple[int, ...] | None = None, critic_width: int | None = None, beta: float = 1.0, share: float | None = None,
        mix: float | None = None, pixel: float | None = None, stretch: float = 0.03, *, loss: Loss | None = None,
        r1: float | None = None, r2: float | None = None, penalty_every: int = 8, augment: Augment = "auto", **rest,
    ):  # fmt: skip
        self.game = game or games.game_of(image_shape)
        own = games.GAMES[self.game](games.size_of(image_shape), min(image_shape[1:]))
        r1, r2 = (own.penalty if weight is None else weight for weight in (r1, r2))
        super().__init__(loss=loss or own.loss, r1=r1, r2=r2, penalty_every=penalty_every, augment=augment, **rest)
        self.latent_dim = latent_dim = games.code_size(image_shape) if latent_dim is None else latent_dim
        self.width, self.critic_width = (own.width if w is None else w for w in (width, critic_width))
        self.wide = own.wide if wide is None else wide
        self.share, self.pixel = own.share if share is None else share, own.pixel if pixel is None else pixel
        self.lr, self.betas, self.batch_size = own.lr, own.betas, own.batch_size
        self.mix = own.mix if mix is None else mix
        if not 0 <= self.share <= 1:
            raise ValueError(f"--share {self.share:g}: give a share of the budget, from 0 to 1")
        if not 0 <= self.mix <= 1:
            raise ValueError(f"--mix {self.mix:g}: give a share of the codes, from 0 to 1")
        if stretch < 0:
            raise ValueError(f"--stretch {stretch:g}: give 0 or more")
        self.image_shape, self.beta = image_shape, beta
        self.begins, self.stretch = ((self.share,), stretch) if self.share < 1 else ((), 0.0)
        self.batch_coupled = own.norm and "conv" in (net, critic_net)
        self.encoder = nets.he_(nets.encoder(net, image_shape, 2 * latent_dim, hidden, self.width, 4))
        body = nets.decoder(net, latent_dim, image_shape, hidden, self.width, 4, self.wide, own.norm)
        self.decoder = self.with_dropout(nets.initialised(body, net, own.norm))
        self.critic = self.with_rules(nets.critic(critic_net, image_shape, hidden, self.critic_width, own.norm))
        self.pool: tuple[object, Tensor] | None = None  # a sampler, and codes drawn from it

    @classmethod
    def suited_to(cls, data, given):
        return games.of_few(data.shape, given.get("game") or games.game_of(data.shape)) if len(data) < FEW else {}

    def meet(self, data):
        super().meet(data)
        few = self.game == "dcgan" and self.begins and len(data) < FEW
        self.schedule = "constant" if few else type(self).schedule

    def players(self):
        return {
            "encoder": [self.encoder], "decoder": [self.decoder], "generator": [self.decoder], "critic": [self.critic],
        }  # fmt: skip

    def seats(self):
        player = Seat(lr=self.lr, betas=self.betas, ema=50_000, span=(self.share, 1.0))
        return {
            "encoder": Seat(span=(0.0, self.share)), "decoder": Seat(ema=50_000, span=(0.0, self.share)),
            "generator": player, "critic": player,
        }  # fmt: skip

    def play(self, data, t):
        x = next(data).image  # (B, C, H, W)
        if t.stage == 0:
            yield self.vae(x, t)
            return
        # the last step of the critic is on the images of a step of the generator: together with it (r3gan) or in turn (dcgan)
        for _ in range(self.critic_steps - 1):
            with torch.no_grad():
                fake = self.generate(self.codes(x, t)[0])
            yield {"critic": self.critic_cost((x,), (fake,), t)}
            x = next(data).image
        if self.game == "dcgan":
            fake, likeness = self.drawing(x, t)
            yield {"critic": self.critic_cost((x,), (fake.detach(),), t)}
            yield {"generator": self.generator_cost((x,), (fake,), t) + likeness}
        for _ in range(self.generator_steps - 1):
            fake, likeness = self.drawing(x, t)
            yield {"generator": self.generator_cost((x,), (fake,), t) + likeness}
        if self.game == "r3gan":
            yield self.duel(x, t)

    def vae(self, x: Tensor, t) -> dict[str, Tensor]:
        """Stage 0: the two halves of the VAE."""
        q = self.encode(x)
        nll = self.reconstruction_nll(q.sample(t.randn(len(x), self.latent_dim)), x).mean()
        kl = q.kl().mean()
        t.log("reconstruction_nats", nll)
        t.log("kl_nats", kl)
        loss = nll + self.beta * kl
        return {"encoder": loss, "decoder": loss}

    def duel(self, x: Tensor, t) -> dict[str, Tensor]:
        """R3GAN's game: critic and generator in one move, each on its own loss."""
        self.clamp()
        fake, likeness = self.drawing(x, t)
        seen, forged = self.disguise((x, fake), t)
        forged = forged.view_as(forged)
        real, made = self.verdict(seen), self.verdict(forged)
        real_cost, fake_cost = self.costs(real, made, t)
        fool = generator_loss(made, self.loss, real).mean()
        for name, value in {"critic_real": real_cost, "critic_fake": fake_cost, "generator": fool}.items():
            t.log(name, value)
        critic = real_cost.mean() + fake_cost.mean() + self.penalty((x,), (fake,), t)
        back = self.reversal(real, made)
        if back is None:
            return {"generator": fool + likeness, "critic": critic}
        # Both players are given the same tensor, so that one pass back serves both (`gradients.py`); each takes the gradient of
        # its own weights alone. The critic's weights do not know `likeness`. What reaches the decoder through `forged`, a view
        # so that the likeness does not pass it, is the critic's gradient, which `reverse` multiplies by `factor` into the
        # generator's (`parts/adversarial.reversal`).
        factor, leak = back
        reverse(forged, factor)
        return dict.fromkeys(("generator", "critic"), critic + leak + likeness)

    def drawing(self, x: Tensor, t) -> tuple[Tensor, Tensor]:
        """What the decoder makes of as many codes as there are images (B, C, H, W), and the cost of its unlikeness."""
        z, own = self.codes(x, t)
        logits = self.decoder(z)
        return self.image_of(logits), self.pixel * bernoulli_nll(logits[own], x[own]).sum() / len(x)

    @torch.no_grad()
    def codes(self, x: Tensor, t) -> tuple[Tensor, list[int]]:
        """Codes (B, Z), and which of them are those of the images, spread evenly; the others come from a pool of the
        sampler's."""
        n = len(x)
        if self.pool is None or self.pool[0] is not self.sampler:
            self.pool = self.sampler, self.draw_codes(POOL, seed=POOL_SEED).to(self.device)
        pool = self.pool[1]
        z = pool[(t.rand(n, 1)[:, 0] * len(pool)).long().clamp_(max=len(pool) - 1)]
        first, noise = t.examples + t.part * n, t.randn(n, self.latent_dim)
        own = [i for i in range(n) if int((first + i + 1) * self.mix) > int((first + i) * self.mix)]
        if own:
            z[own] = self.encode(x[own]).sample(noise[own])
        return z, own

    def enter(self, stage, data, held):
        self.fit_sampler(data, held)

    def encode(self, image: Tensor, y: Tensor | None = None) -> Diagonal:
        return Diagonal(*self.encoder(image.to(self.device)).chunk(2, 1))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.image_of(self.decoder(z))

    def image_of(self, logits: Tensor) -> Tensor:
        p = torch.sigmoid(logits)
        return ((1 + 2 * self.stretch) * p - self.stretch).clamp(0, 1) if self.stretch else p

    def reconstruction_nll(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return bernoulli_nll(self.decoder(z), x)

    def evaluate(self, batch):
        return elbo_measures(self, batch.image)

    def objective(self):
        likeness = "-log p(x|z)  (bernoulli, nats)"
        vae = [Term("encoder", "KL(q(z|x) || N(0, I))", self.beta)]
        vae += [Term(player, likeness) for player in ("encoder", "decoder")]
        critic = self.critic_terms("x", "G(z)")
        fool = [Term("generator", GENERATOR[self.loss].format(real="x", fake="G(z)"))]
        fool += [Term("generator", f"{likeness}, z ~ q(z|x)", self.pixel * self.mix)]
        at_once = self.game == "r3gan"  # the last step of each
        second = [critic] * (self.critic_steps - at_once) + [fool] * (self.generator_steps - at_once)
        second += [fool + critic] * at_once
        return [vae] * bool(self.share) + second * bool(self.begins)
