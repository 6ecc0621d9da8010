"""A critic of K classes and one for what is generated, and a generator that matches its features: Salimans et al. 2016,
arXiv:1606.03498, sections 5 and 3.1."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from latentforge.game import Term


def unsupervised_cost(real: Tensor, made: Tensor, t) -> Tensor:
    """Half of -log D(x) - log(1 - D(G)) with D = Z / (Z + 1), Z = sum_k exp of the logits (B, K), mean: section 5, the
    logit of class K + 1 fixed to 0."""
    real_cost, fake_cost = F.softplus(-real.float().logsumexp(1)), F.softplus(made.float().logsumexp(1))
    t.log("critic_real", real_cost)
    t.log("critic_fake", fake_cost)
    return 0.5 * (real_cost.mean() + fake_cost.mean())


def matched(look: Callable[[Tensor], Tensor], real: Tensor, made: Tensor) -> Tensor:
    """Feature matching: ||E h(G) - E h(x)||^2, averaged over the features h (B, F) that `look` gives; no gradient of x."""
    with torch.no_grad():
        target = look(real).float().mean(0)
    return (look(made).float().mean(0) - target).square().mean()


def unsupervised_terms(player: str, made: str, matching: float) -> list[Term]:
    """The critic's loss as `explain` shows it."""
    return [
        Term(player, "-log D(x) / 2, x unlabelled,  D = sum_k exp l_k / (1 + sum_k exp l_k)", matching),
        Term(player, f"-log(1 - D({made})) / 2", matching),
    ]
