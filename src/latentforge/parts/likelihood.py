"""How well a decoder's output explains an image: -log p(x | z) per example (B,), in nats, in float32.

`bernoulli` on grey values is the customary loss but no likelihood: it cannot fall below the entropy of the pixels.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from latentforge.parts.gaussian import LOG_2PI, Squashed
from latentforge.parts.likeness import mean_squared

ERROR = {"squared": "||x - x'||^2", "bernoulli": "cross-entropy of x under x' (nats)"}  # as `explain` writes them


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """Sum over pixels of the cross-entropy between x in [0, 1] and sigmoid(logits), both (B, C, H, W)."""
    return F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="none").flatten(1).sum(1)


def gaussian_nll(mean: Tensor, x: Tensor, log_sigma: Tensor | float) -> Tensor:
    """-log N(x; mean, sigma^2 I), the constant included; log_sigma a number, a scalar or a tensor like x."""
    log_sigma = torch.as_tensor(log_sigma, dtype=torch.float32, device=x.device)
    d = (x.float() - mean.float()) * (-log_sigma).exp()
    return (0.5 * (d * d + LOG_2PI) + log_sigma).flatten(1).sum(1)


def reconstruction_error(logits: Tensor, x: Tensor, kind: Literal["squared", "bernoulli"]) -> Tensor:
    """(B,) squared error of sigmoid(logits), or cross-entropy in nats, summed over pixels."""
    if kind == "bernoulli":
        return bernoulli_nll(logits, x)
    return (torch.sigmoid(logits.float()) - x).square().flatten(1).sum(1)


def bernoulli_floor(x: Tensor) -> Tensor:
    """The entropy of the pixels (B,): the least value `bernoulli_nll` can take on grey values x in [0, 1]."""
    x = x.double()
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).flatten(1).sum(1)


def importance_bound(game: Any, x: Tensor, noise: Tensor, y: Tensor | None = None) -> Tensor:
    """-log 1/K sum_k p(x, z_k | y) / q(z_k | x, y), (B,) nats, from noise (B, K, Z): an upper bound of -log p(x | y) that
    tightens as K grows (Burda et al. 2016, arXiv:1509.00519, equation 8). A squashed code is weighed before its squashing,
    which is one to one."""
    q = game.encode(x, y)
    squashed = isinstance(q, Squashed)
    base = q.base if squashed else q
    weights = []
    for eps in noise.unbind(1):
        u = base.sample(eps)
        nll = game.reconstruction_nll(Squashed.squash(u) if squashed else u, x, y)
        weights.append(game.log_base(u) - nll - base.log_prob(u))
    return math.log(noise.shape[1]) - torch.stack(weights).logsumexp(0)


def elbo_measures(game: Any, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
    """What a model with a Gaussian posterior, N(0, I) as prior and a likelihood says of images (B, C, H, W): loss,
    likelihood and KL in nats, and the squared error per pixel of the decoded mean; each (B,)."""
    q = game.encode(x, y)
    code = q.sample(torch.randn(len(x), game.latent_dim).to(x.device))
    nll, kl = game.reconstruction_nll(code, x, y), q.kl()
    mse = mean_squared(game.generate(q.mean, y), x)
    return {"loss_nats": nll + kl, "reconstruction_nats": nll, "kl_nats": kl, "reconstruction_mse": mse}
