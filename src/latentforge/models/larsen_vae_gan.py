"""VAE-GAN: a VAE whose decoder also plays against a critic, and whose likeness is measured in the critic's features.

Larsen, Sønderby, Larochelle & Winther, "Autoencoding beyond pixels using a learned similarity metric", ICML 2016,
arXiv:1512.09300, Algorithm 1; reference code andersbll/autoencoding_beyond_pixels (MIT). With x~ = G(z), z ~ q(z|x),
x_p = G(z_p), z_p ~ p(z), and the critic's features D_l:

    P = beta KL(q(z|x) || p(z))      R = 1/2 ||D_l(x) - D_l(x~)||^2
    A = log s(D(x)) + log(1 - s(D(x~))) + log(1 - s(D(x_p)))      (D the critic's logit, s the sigmoid)
    encoder descends P + R             decoder descends gamma R + A          critic descends -A

`objective=sum` is article 002's L_VAE + lambda L_GAN in one move, `in-turn` its order critic, generator, VAE.

Departures: the decoder minimises -log s(D) by default instead of maximising the critic's loss (`loss=minimax` is the
published form, and other losses can take its place); whether a network is updated is decided by running averages of the
critic's losses instead of by the current batch (the margin, .35 as released and .5 here, is taken from their values at
equilibrium: ln 2 for one kind of fakes, ln 3 and ln 3/2 for both); by default the reconstruction term is mostly that of
pixels (`pixel`, Bernoulli) and a little that of features (`feature`; 0 and 1 are the published form), which keeps
reconstructions accurate and the KL moderate; codes to sample from come from a Gaussian mixture fitted after training
(`--sampler prior` for N(0, I)); no batch norm unless `net=larsen`; Adam, 1e-3 and for the critic 2e-4, and batches of
128, for their RMSProp, 3e-4 and 64 (`--preset mnist/larsen` has these); samples come from a moving average of the
weights (`--ema 0` for none).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from latentforge import nets
from latentforge.duel import GENERATOR, Duel
from latentforge.game import Seat, Term, leave_out
from latentforge.nets import published
from latentforge.nets.condition import Condition
from latentforge.parts.adversarial import PROBABILISTIC, generator_loss, reverse
from latentforge.parts.gate import Gate
from latentforge.parts.gaussian import Diagonal
from latentforge.parts.likelihood import bernoulli_nll, elbo_measures
from latentforge.parts.likeness import squared_error
from latentforge.registry import register

FAKES = {"both": (1, 2), "prior": (2,), "reconstructions": (1,)}  # of x, x~, x_p


@register("larsen-vae-gan")
class LarsenVAEGAN(Duel):
    """Encoder, decoder and critic.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        net: mlp (dense), conv (any size), or larsen (the released networks)
        hidden: widths of the dense networks (mlp)
        width: channels of the first convolution, doubled at every halving (conv)
        objective: larsen (Algorithm 1), sum (L_VAE + lambda L_GAN in one step), in-turn (critic, generator, VAE)
        fakes: generated images that the critic sees: samples of the prior, reconstructions, or both (larsen)
        beta: weight of the KL term
        gamma: weight of the reconstruction term in the decoder's loss, against 1 for the adversarial one (larsen)
        feature: weight of the reconstruction term in the critic's features; 1 is the published form (larsen)
        pixel: weight of the reconstruction term in pixels (Bernoulli, nats); 0 is the published form (larsen)
        weight: lambda, the weight of the adversarial loss beside L_VAE (sum, in-turn)
        margin: critic or decoder is not updated while the critic's running loss is further from equilibrium than this, in
            nats; 0: always updated (larsen)
    """

    pixel_range = (0.0, 1.0)
    sampler_kind = "gmm"
    batch_size = 128

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int = 20, net: Literal["mlp", "conv", "larsen"] = "conv",
        hidden: tuple[int, ...] = (512,), width: int = 32, objective: Literal["larsen", "sum", "in-turn"] = "larsen",
        fakes: Literal["both", "prior", "reconstructions"] = "both", beta: float = 1.0, gamma: float = 0.1,
        feature: float = 0.1, pixel: float = 1.0, weight: float = 10.0, margin: float = 0.5,
        _condition: Condition | None = None, _projection: bool = False, **rules,
    ):  # fmt: skip
        super().__init__(**rules)
        self.image_shape, self.latent_dim, self.kind = image_shape, latent_dim, objective
        self.fakes, gated = fakes, self.loss in PROBABILISTIC and objective == "larsen"
        self.beta, self.gamma, self.feature, self.pixel, self.weight = beta, gamma, feature, pixel, weight
        self.batch_coupled = net == "larsen"
        shown, told = self.be_told(_condition, image_shape)
        judged = image_shape if _projection else shown
        if net == "larsen":
            self.encoder: Any = published.larsen_encoder(shown, 2 * latent_dim)
            decoder, critic = published.larsen_decoder(latent_dim + told, image_shape), published.larsen_critic(judged)
        else:
            self.encoder = nets.encoder(net, shown, 2 * latent_dim, hidden, width, 4)
            decoder = nets.decoder(net, latent_dim + told, image_shape, hidden, width, 4)
            critic = nets.MLPCritic(judged, hidden) if net == "mlp" else nets.ConvCritic(judged, width)
        self.decoder, self.critic = self.with_dropout(decoder), self.with_rules(critic, told, _projection)
        self.gate = Gate(2 if fakes == "both" and objective == "larsen" else 1, margin if gated else 0.0)

    def players(self):
        told = [] if self.plane is None else [self.plane]
        return {"encoder": [self.encoder, *told], "decoder": [self.decoder], "critic": [self.critic]}

    def seats(self):
        vae = Seat(lr=1e-3, betas=(0.9, 0.999))
        return {"encoder": vae, "decoder": vae, "critic": Seat(lr=2e-4, betas=(0.5, 0.999))}

    def play(self, data, t):
        # in larsen and sum the last step of the critic is part of the move of all
        in_turn, scale = self.kind == "in-turn", 1.0 if self.kind == "larsen" else self.weight
        for _ in range(0 if "critic" in self.gate.sitting_out() else self.critic_steps - (not in_turn)):
            batch = next(data)
            x, y = batch.image, self.labels_of(batch, t)
            with torch.no_grad():
                fake = self.generate(t.randn(len(x), self.latent_dim), y)
            yield {"critic": self.critic_cost((x,), (fake,), t, y)}
        batch = batch if in_turn else next(data)
        x, y = batch.image, self.labels_of(batch, t)  # (B, C, H, W)
        for _ in range(self.generator_steps - (not in_turn)):
            fake = self.generate(t.randn(len(x), self.latent_dim), y)
            yield {"decoder": scale * self.generator_cost((x,), (fake,), t, y)}
        yield {"larsen": self.larsen, "sum": self.sum, "in-turn": self.vae}[self.kind](x, y, t)

    def larsen(self, x, y, t):
        """Algorithm 1: one move of three players, each with its own loss."""
        q, logits = self.rebuild(x, y, t)
        images = (x, torch.sigmoid(logits), self.generate(t.randn(len(x), self.latent_dim), y))
        self.clamp()
        # views: what comes back through the verdicts is reversed, and not what else the images are good for
        seen = tuple(image.view_as(image) for image in self.disguise(images, t))
        verdicts, features = self.look(seen, y)
        if self.augment != "none" or self.instance_noise:  # compared are the images as they are
            features = self.look(images[:2], y)[1]
        likeness = 0.5 * squared_error(*features[:2]).mean()
        alike = self.feature * likeness + self.pixel * bernoulli_nll(logits, x).mean()
        kinds = FAKES[self.fakes]
        real, shown = verdicts[0], torch.stack([verdicts[k] for k in kinds])  # (B,), (kinds of fakes, B)
        real_cost, fake_cost = self.costs(real, shown, t)
        kl = q.kl().mean()
        fool = generator_loss(shown, self.loss, real).sum(0).mean()
        penalty = self.penalty((x,), (images[kinds[-1]],), t, y)
        out = self.gate.sitting_out()
        for name, value in {
            "kl_nats": kl, "likeness": likeness, "critic_real": real_cost, "critic_fake": fake_cost, "fool": fool,
            "critic_sits_out": "critic" in out, "decoder_sits_out": "decoder" in out,
        }.items():  # fmt: skip
            t.log(name, value)
        real_cost = real_cost if real_cost.dim() == 1 else real_cost.sum(0)
        critic = real_cost.mean() + fake_cost.sum(0).mean() + penalty
        back = self.reversal(real, shown)
        if back is None:
            move = {"encoder": self.beta * kl + alike, "decoder": self.gamma * alike + fool, "critic": critic}
            return leave_out(move, *out)
        # the cost of unlikeness goes back to the logits first, so that its gradient can be there without one for the critic
        (pull,) = torch.autograd.grad(alike, logits, retain_graph=True)
        alike = alike.detach() + (pull * (logits - logits.detach())).sum()
        for kind, factor in zip(kinds, back[0], strict=True):
            reverse(seen[kind], factor)
        both = self.gamma * alike + critic + back[1]
        return leave_out({"encoder": self.beta * kl + alike, "decoder": both, "critic": both}, *out)

    def sum(self, x, y, t):
        """Article 002, section 3.1: encoder and decoder descend L_VAE + lambda L_GAN, the critic ascends L_GAN."""
        loss = self.vae(x, y, t)["encoder"]
        fake = self.generate(t.randn(len(x), self.latent_dim), y)
        critic = self.critic_cost((x,), (fake,), t, y)
        loss = loss + self.weight * self.generator_cost((x,), (fake,), t, y)
        return {"encoder": loss, "decoder": loss, "critic": critic}

    def vae(self, x, y, t):
        """Article 002, section 3.2: the critic, then the generator, then the VAE, each seeing the steps before."""
        q, logits = self.rebuild(x, y, t)
        loss = bernoulli_nll(logits, x).mean() + self.beta * q.kl().mean()
        t.log("loss", loss)
        return {"encoder": loss, "decoder": loss}

    def rebuild(self, x: Tensor, y: Tensor | None, t) -> tuple[Diagonal, Tensor]:
        """The posterior, and the logits of a reconstruction from one sample of it."""
        q = self.encode(x, y)
        return q, self.decoder(self.tell(q.sample(t.randn(len(x), self.latent_dim)), y))

    def settle(self, t):
        self.gate.note(t.means["critic_real"], t.means["critic_fake"])

    def encode(self, image: Tensor, y: Tensor | None = None) -> Diagonal:
        return Diagonal(*self.encoder(self.show(image.to(self.device), y)).chunk(2, 1))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(self.tell(z, y)))

    def reconstruction_nll(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return bernoulli_nll(self.decoder(self.tell(z, y)), x)

    def evaluate(self, batch):
        return elbo_measures(self, batch.image, self.labels_of(batch))

    def objective(self):
        larsen, alone = self.kind == "larsen", self.kind == "in-turn"
        given = "" if self.condition is None else ", y"
        likeness = [(f"-log p(x|z{given})  (bernoulli, nats)", self.pixel if larsen else 1.0)]
        likeness += [("||D_l(x) - D_l(x~)||^2 / 2", self.feature)] * larsen
        kinds = [("x", "x~", "x_p")[k] for k in FAKES[self.fakes]] if larsen else ["x_p"]
        weight = 1.0 if larsen else self.weight
        *fool, apart = [Term("decoder", GENERATOR[self.loss].format(real="x", fake=k), weight) for k in [*kinds, "x_p"]]
        vae = [Term("encoder", f"KL(q(z|x{given}) || N(0, I))", self.beta)]
        vae += [Term("encoder", f, w) for f, w in likeness if w]
        vae += [Term("decoder", f, w * (self.gamma if larsen else 1.0)) for f, w in likeness if w]
        moves = [vae] if alone else [[*vae, *fool, *self.critic_terms("x", *kinds)]]
        extra = [self.critic_terms("x", "x_p")] * (self.critic_steps - (not alone))
        return extra + [[apart]] * (self.generator_steps - (not alone)) + moves
