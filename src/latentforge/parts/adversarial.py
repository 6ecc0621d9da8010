"""Losses of a critic and a generator on logits (B,) or (B, 1), per example, in nats, in float32.

D(x) is sigmoid(logit). `nonsaturating` and `minimax` share the critic's loss (Goodfellow et al. 2014, Algorithm 1);
they differ in what the generator descends: -log D(G(z)), or log(1 - D(G(z))).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

GeneratorLoss = Literal["nonsaturating", "minimax"]


def critic_loss(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """(-log D(x), -log(1 - D(G(z)))): the critic descends their sum."""
    return F.softplus(-real.float()), F.softplus(fake.float())


def generator_loss(fake: Tensor, kind: GeneratorLoss = "nonsaturating") -> Tensor:
    """What the generator descends."""
    return F.softplus(-fake.float()) if kind == "nonsaturating" else -F.softplus(fake.float())
