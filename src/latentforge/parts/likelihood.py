"""How well a decoder's output explains an image: -log p(x | z) per example (B,), in nats, in float32.

`bernoulli` on grey values is the customary loss but no likelihood: it cannot fall below the entropy of the pixels.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from latentforge.parts.gaussian import LOG_2PI

Likelihood = Literal["bernoulli", "gaussian", "learned-gaussian"]
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


def elbo_measures(game: Any, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
    """What a model with a Gaussian posterior, N(0, I) as prior and a Bernoulli decoder says of images (B, C, H, W): loss,
    likelihood and KL in nats, and the squared error per pixel of the decoded mean; each (B,)."""
    q = game.encode(x, y)
    code = q.sample(torch.randn(len(x), game.latent_dim).to(x.device))
    nll, kl = bernoulli_nll(game.decoder(game.tell(code, y)), x), q.kl_per_dimension().sum(1)
    mse = (game.generate(q.mean, y) - x).square().flatten(1).mean(1)
    return {"loss_nats": nll + kl, "nll_nats": nll, "kl_nats": kl, "reconstruction_mse": mse}
