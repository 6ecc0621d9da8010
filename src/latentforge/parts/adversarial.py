"""What critic and generator descend, on logits (B,) or (K, B) for K kinds of fakes: per example, in float32.

D is the critic's logit, s the sigmoid. `nonsaturating` and `minimax` (Goodfellow et al. 2014, Algorithm 1) share the
critic's loss, -log s(D(x)) - log(1 - s(D(G(z)))), and differ in what the generator descends, -log s(D(G(z))) or
log(1 - s(D(G(z)))). `least-squares`: Mao et al. 2017, arXiv:1611.04076, equation 9 without its halves, targets 1 and
0. `hinge`: Lim & Ye 2017, arXiv:1705.02894. `wasserstein`: Arjovsky et al. 2017, arXiv:1701.07875, equation 3.
`relativistic`: pairs of a real and a generated image, Jolicoeur-Martineau 2019, arXiv:1807.00734, as in R3GAN (Huang et
al. 2024, arXiv:2501.05441, equation 2).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Literal["nonsaturating", "minimax", "least-squares", "hinge", "wasserstein", "relativistic"]
PROBABILISTIC = ("nonsaturating", "minimax")  # their logits are log odds
LEAK = 1e-12  # slope of the cost that keeps the critic's gradient alive in `reversal`


def critic_loss(
    real: Tensor, fake: Tensor, kind: Loss = "nonsaturating", smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The critic's cost of real and of generated examples; it descends their sum. `smoothing` takes the target of real
    examples from 1 to 1 - smoothing (Salimans et al. 2016, section 3.4), where the loss has targets."""
    real, fake = real.float(), fake.float()
    if kind in PROBABILISTIC:
        return F.softplus(-real) + smoothing * real, F.softplus(fake)
    if kind == "least-squares":
        return (real - (1 - smoothing)).square(), fake.square()
    if kind == "hinge":
        return F.relu(1 - real), F.relu(1 + fake)
    if kind == "wasserstein":
        return -real, fake
    half = 0.5 * F.softplus(fake - real)
    return half, half


def generator_loss(fake: Tensor, kind: Loss = "nonsaturating", real: Tensor | None = None) -> Tensor:
    """What the generator descends; the relativistic loss compares with the critic's verdict on `real` images."""
    fake = fake.float()
    if kind == "nonsaturating":
        return F.softplus(-fake)
    if kind == "minimax":
        return -F.softplus(fake)
    if kind == "least-squares":
        return (fake - 1).square()
    if kind in ("hinge", "wasserstein"):
        return -fake
    if real is None:
        raise ValueError("the relativistic loss needs the critic's verdict on real images")
    return F.softplus(real.float() - fake)


def reversal(real: Tensor, fake: Tensor, kind: Loss) -> tuple[Tensor, Tensor] | None:
    """What turns the critic's gradient at each generated example into the generator's on the way back, from the logits,
    so that one pass through the critic serves both players (gradient reversal, Ganin & Lempitsky 2015,
    arXiv:1409.7495): the factors, one per logit, and a cost to add to the critic's. The cost's slope of `LEAK` keeps the
    critic's gradient from vanishing where it is sure and the generator's is not small, which no factor could mend. None for
    hinge and least-squares, under which the critic's gradient is zero at some logits."""
    if kind not in ("relativistic", "nonsaturating", "minimax", "wasserstein"):
        return None
    if kind in ("minimax", "wasserstein"):
        return -torch.ones_like(fake, dtype=torch.float32), torch.zeros((), device=fake.device)
    gap = (fake.float() - real.float() if kind == "relativistic" else fake.float()).detach()
    return -torch.sigmoid(-gap) / (torch.sigmoid(gap) + LEAK), LEAK * fake.float().sum() / fake.shape[-1]


def reverse(image: Tensor, factor: Tensor) -> None:
    """Multiply what comes back to images (B, ...) through the critic by its factors (B,), see `reversal`."""
    image.register_hook(lambda gradient: gradient * factor.to(gradient.dtype).view(-1, *[1] * (gradient.dim() - 1)))


def encoder_loss(real: Tensor, kind: Loss = "nonsaturating") -> Tensor:
    """What the maker of the *real* pairs descends where they can be made to look fake (BiGAN's encoder): the generator's
    loss with the roles exchanged. Zero under the relativistic loss, whose generator loss pairs both already."""
    if kind == "relativistic":
        return torch.zeros_like(real, dtype=torch.float32)
    return generator_loss(1 - real if kind == "least-squares" else -real, kind)
