"""Variational autoencoder.

Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114. Loss: equation 10 with one sample per
image; `beta` is that of Higgins et al., "beta-VAE", ICLR 2017; `free_bits` that of Kingma et al. 2016,
arXiv:1606.04934, appendix C.8, per dimension and batch; `learned-gaussian` is the sigma-VAE of Rybkin et al. 2021,
arXiv:2006.13202, equation 5; `pixel-gaussian` lets the decoder give a standard deviation per pixel (article 002);
`binarise` is the dynamic binarisation of Burda et al. 2016, arXiv:1509.00519, section 5.

Departures: Adam instead of Adagrad; the decoder's mean goes through a sigmoid under every likelihood; under
`pixel-gaussian` sigma stays above 1/255, else constant pixels would make the likelihood unbounded. The uniform prior on
[-1, 1]^Z of article 001 is a standard normal pushed through 2 Phi(u) - 1, which keeps the KL in closed form; samples
come from a moving average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from latentforge import nets
from latentforge.game import Game, Term
from latentforge.nets.condition import Condition
from latentforge.parts.gaussian import Diagonal, Full, Squashed, cholesky_factor, fill, kl_between
from latentforge.parts.likelihood import bernoulli_nll, gaussian_nll
from latentforge.parts.likeness import mean_squared
from latentforge.parts.noise import uniform_log_density
from latentforge.registry import register
from latentforge.schedules import ramp


@register("vae")
class VAE(Game):
    """Encoder (inference network) and decoder (generative network), one player.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        net: mlp (dense), conv (strided convolutions), resnet (those and residual blocks), or the network of an article
        hidden: widths of the dense encoder; the decoder mirrors them (mlp, article-001)
        width: channels of the first convolution, doubled at every halving (conv, resnet)
        kernel: side of the convolutions (conv, resnet)
        wide: widths of dense layers before the decoder's convolutions (conv, resnet)
        likelihood: bernoulli, gaussian (fixed sigma), learned-gaussian (one learned sigma), pixel-gaussian (one per pixel)
        sigma: standard deviation of the gaussian likelihood; where a learned one begins
        beta: weight of the KL term; 1 is the VAE, more is the beta-VAE
        kl_warmup: examples over which the KL term grows from 0 to its weight
        free_bits: nats of each code dimension that cost nothing, in the mean over a batch
        prior: gaussian with the mean and scale below, or uniform on [-1, 1]
        prior_mean: one number or one per dimension
        prior_scale: one number, one per dimension, or the lower triangle of a Cholesky factor row by row
        posterior: diagonal or full covariance
        binarise: show each image as black and white pixels, drawn anew every time with its grey values as probabilities
    """

    prior_mean: Tensor
    prior_scale: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 20,
        net: nets.Net = "conv",
        hidden: tuple[int, ...] = (512,),
        width: int = 32,
        kernel: int = 4,
        wide: tuple[int, ...] = (),
        likelihood: Literal["bernoulli", "gaussian", "learned-gaussian", "pixel-gaussian"] = "bernoulli",
        sigma: float = 1.0,
        beta: float = 1.0,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
        prior: Literal["gaussian", "uniform"] = "gaussian",
        prior_mean: tuple[float, ...] = (0.0,),
        prior_scale: tuple[float, ...] = (1.0,),
        posterior: Literal["diagonal", "full"] = "diagonal",
        binarise: bool = False,
        _condition: Condition | None = None,
    ):
        super().__init__()
        self.image_shape, self.latent_dim, self.likelihood = image_shape, latent_dim, likelihood
        self.beta, self.kl_warmup, self.free_bits = beta, kl_warmup, free_bits
        self.prior, self.posterior, self.binarise = prior, posterior, binarise
        z = latent_dim
        self.register_buffer("prior_mean", fill(prior_mean, z, "prior_mean"))
        self.register_buffer("prior_scale", cholesky_factor(prior_scale, z))
        self.standard = not self.prior_mean.any() and torch.equal(self.prior_scale, torch.eye(z))
        if prior == "uniform" and not self.standard:
            raise ValueError("the uniform prior takes no prior_mean or prior_scale")
        if free_bits and not (self.standard and posterior == "diagonal"):
            raise ValueError("free_bits needs the diagonal posterior and a standard prior")
        if sigma != 1 and likelihood not in ("gaussian", "learned-gaussian"):
            raise ValueError(
                f"sigma is of the gaussian likelihoods, and the {likelihood} has none; add likelihood gaussian"
            )
        if free_bits:
            self.batch_coupled = True  # what is free is so in the mean over the batch
        if binarise and likelihood != "bernoulli":
            raise ValueError("black and white pixels need the bernoulli likelihood")
        numbers = 2 * z if posterior == "diagonal" else z + z * (z + 1) // 2
        c, h, w = image_shape
        out_shape = (2 * c, h, w) if likelihood == "pixel-gaussian" else image_shape
        shown, told = self.be_told(_condition, image_shape)
        self.encoder = nets.encoder(net, shown, numbers, hidden, width, kernel)
        self.decoder = nets.decoder(net, z + told, out_shape, hidden, width, kernel, wide)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma))) if likelihood == "learned-gaussian" else None
        self.fixed_log_sigma = math.log(sigma)

    def players(self):
        extra: list[nn.Module] = [] if self.log_sigma is None else [nn.ParameterList([self.log_sigma])]
        extra += [] if self.condition is None else [self.condition, self.plane]
        return {"vae": [self.encoder, self.decoder, *extra]}

    def play(self, data, t):
        batch = next(data)
        x, y = self.drawn(batch.image, t), self.labels_of(batch, t)  # (B, C, H, W)
        q = self.posterior_of(self.spoilt(x, t), y)
        z = self.code(q, t.randn(len(x), self.latent_dim))
        nll, kl = self.reconstruction_nll(z, x, y).mean(), self.kl(q)
        cost = kl.mean()
        if self.free_bits and isinstance(q, Diagonal):
            cost = q.kl_per_dimension().mean(0).clamp(min=self.free_bits).sum()
        loss = nll + self.beta * ramp(t.examples, self.kl_warmup) * cost
        t.log("loss", loss)
        t.log("reconstruction_nats", nll)
        t.log("kl_nats", kl)
        yield {"vae": loss}

    def drawn(self, x: Tensor, t=None) -> Tensor:
        """The images that are modelled: x, or what `binarise` draws of it, from the round's noise or the global one."""
        if not self.binarise:
            return x
        return ((torch.rand_like(x) if t is None else t.rand(*x.shape)) < x).to(x.dtype)

    def spoilt(self, x: Tensor, t) -> Tensor:
        """What the encoder is shown of x while training: x; the denoising families spoil it here."""
        return x

    def posterior_of(self, x: Tensor, y: Tensor | None = None) -> Diagonal | Full:
        """q(u | x, y); the code z is u, or its squashed form under the uniform prior."""
        h = self.encoder(self.show(x, y)).float()
        mean, rest = h[:, : self.latent_dim], h[:, self.latent_dim :]
        return Diagonal(mean, rest) if self.posterior == "diagonal" else Full(mean, rest)

    def code(self, q: Diagonal | Full, noise: Tensor) -> Tensor:
        """One sample (B, Z) of the code."""
        u = q.sample(noise)
        return Squashed.squash(u) if self.prior == "uniform" else u

    def kl(self, q: Diagonal | Full) -> Tensor:
        """KL(q || prior), (B,) nats."""
        if self.standard and isinstance(q, Diagonal):
            return q.kl()
        return kl_between(q.mean, q.tril(), self.prior_mean[None], self.prior_scale[None])

    def reconstruction_nll(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """-log p(x | z, y), (B,) nats."""
        out = self.decoder(self.tell(z, y)).float()
        if self.likelihood == "bernoulli":
            return bernoulli_nll(out, x)
        if self.likelihood == "pixel-gaussian":
            out, raw = out.chunk(2, 1)
            floor = math.log(1 / 255)
            return gaussian_nll(torch.sigmoid(out), x, floor + F.softplus(raw - floor))
        log_sigma = self.fixed_log_sigma if self.log_sigma is None else self.log_sigma.clamp(min=math.log(1 / 255))
        return gaussian_nll(torch.sigmoid(out), x, log_sigma)

    def encode(self, image: Tensor, y: Tensor | None = None) -> Diagonal | Full | Squashed:
        q = self.posterior_of(image.to(self.device), y)
        return Squashed(q) if self.prior == "uniform" else q

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.decoder(self.tell(z, y))[:, : self.image_shape[0]])

    def draw_prior(self, n: int, generator: torch.Generator) -> Tensor:
        u = torch.randn(n, self.latent_dim, generator=generator)
        if self.prior == "uniform":
            return Squashed.squash(u)
        return self.prior_mean.cpu() + u @ self.prior_scale.cpu().T

    def log_prior(self, z: Tensor) -> Tensor:
        if self.prior == "uniform":
            return uniform_log_density(z)
        return self.log_base(z)

    def log_base(self, u: Tensor) -> Tensor:
        """log density, (B,) nats, of the Gaussian prior of u; u is the code but for the uniform prior's squashing."""
        return MultivariateNormal(self.prior_mean, scale_tril=self.prior_scale, validate_args=False).log_prob(u)

    def evaluate(self, batch):
        x, y = self.drawn(batch.image), self.labels_of(batch)
        q = self.posterior_of(x, y)
        noise = torch.randn(len(x), self.latent_dim).to(x.device)
        nll, kl = self.reconstruction_nll(self.code(q, noise), x, y), self.kl(q)
        shown = batch.image  # grey, as any other model rebuilds it
        mse = mean_squared(self.generate(self.encode(shown, y).mean, y), shown)
        return {"loss_nats": nll + kl, "reconstruction_nats": nll, "kl_nats": kl, "reconstruction_mse": mse}

    def objective(self):
        given = "" if self.condition is None else ", y"
        prior = "U(-1, 1)" if self.prior == "uniform" else "N(0, I)" if self.standard else "N(m, S)"
        kl = f"KL(q(z|x{given}) || {prior})"
        kl = f"sum over j of max({self.free_bits:g}, E KL_j)  of {kl}" if self.free_bits else kl
        kl += f",  from 0 up over {self.kl_warmup:,} images" if self.kl_warmup else ""
        return [[
            Term("vae", f"-log p(x|z{given})  ({self.likelihood}, nats),  z ~ q(z|x{given})"), Term("vae", kl, self.beta),
        ]]  # fmt: skip
