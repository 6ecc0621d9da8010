"""Gaussian distributions over codes and their KL divergences in closed form. Everything in float32.

All shapes (B, Z) unless said; every divergence is per example (B,), in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


class Diagonal:
    """Gaussian posterior N(mean, diag(exp(log_variance))), both (B, Z)."""

    def __init__(self, mean: Tensor, log_variance: Tensor):
        self.mean, self.log_variance = mean.float(), log_variance.float().clamp(-30, 20)

    @property
    def stddev(self) -> Tensor:
        return (0.5 * self.log_variance).exp()

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """mean + stddev * noise (Kingma & Welling 2014, section 2.4); noise defaults to the global generator's."""
        return self.mean + self.stddev * (torch.randn_like(self.mean) if noise is None else noise)

    def log_prob(self, z: Tensor) -> Tensor:
        d = (z - self.mean) / self.stddev
        return -0.5 * (d * d + self.log_variance + LOG_2PI).sum(1)

    def kl_per_dimension(self) -> Tensor:
        """KL(self || N(0, I)) of each dimension (B, Z) (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)

    def kl(self) -> Tensor:
        """KL(self || N(0, I))."""
        return self.kl_per_dimension().sum(1)

    def tril(self) -> Tensor:
        """The Cholesky factor of the covariance, (B, Z, Z)."""
        return torch.diag_embed(self.stddev)


class Full:
    """N(mean, L L^T) with L lower triangular, given as Z (Z + 1) / 2 numbers: the logarithm of its diagonal first,
    then the entries below it, row by row."""

    def __init__(self, mean: Tensor, entries: Tensor):
        self.mean = mean.float()
        z = mean.shape[1]
        log_diagonal = entries[:, :z].float().clamp(-15, 10)
        row, column = torch.tril_indices(z, z, -1, device=mean.device)
        below = torch.zeros(len(mean), z, z, device=mean.device).index_put(
            (torch.arange(len(mean), device=mean.device)[:, None], row, column), entries[:, z:].float()
        )
        self.scale = below + torch.diag_embed(log_diagonal.exp())  # (B, Z, Z)

    @property
    def stddev(self) -> Tensor:
        return self.scale.square().sum(2).sqrt()

    def sample(self, noise: Tensor | None = None) -> Tensor:
        noise = torch.randn_like(self.mean) if noise is None else noise
        with torch.autocast(noise.device.type, enabled=False):  # a product would be of half precision else
            return self.mean + (self.scale @ noise[:, :, None])[:, :, 0]

    def log_prob(self, z: Tensor) -> Tensor:
        d = torch.linalg.solve_triangular(self.scale, (z - self.mean)[:, :, None], upper=False)[:, :, 0]
        return -0.5 * (d.square().sum(1) + z.shape[1] * LOG_2PI) - _log_diagonal(self.scale).sum(1)

    def tril(self) -> Tensor:
        return self.scale


def _log_diagonal(scale: Tensor) -> Tensor:
    return scale.diagonal(dim1=-2, dim2=-1).log()


def kl_between(q_mean: Tensor, q_scale: Tensor, p_mean: Tensor, p_scale: Tensor) -> Tensor:
    """KL(N(q_mean, Lq Lq^T) || N(p_mean, Lp Lp^T)) for any two Gaussians, from their Cholesky factors (B or 1, Z, Z):
    1/2 [tr(Sp^-1 Sq) + (mp - mq)^T Sp^-1 (mp - mq) - Z + ln det Sp - ln det Sq]."""
    b, z = len(q_mean), q_mean.shape[1]
    p_scale = p_scale.expand(b, z, z)
    ratio = torch.linalg.solve_triangular(p_scale, q_scale.expand(b, z, z), upper=False)
    shift = torch.linalg.solve_triangular(p_scale, (p_mean - q_mean).expand(b, z)[:, :, None], upper=False)
    log_det = _log_diagonal(p_scale).sum(1) - _log_diagonal(q_scale).sum(1)
    return 0.5 * (ratio.square().sum((1, 2)) + shift.square().sum((1, 2)) - z) + log_det


class Squashed:
    """The code 2 Phi(u) - 1 of a Gaussian posterior over u: with u ~ N(0, I) as prior this is a uniform prior on
    [-1, 1]^Z, and the KL is that of u, because the map is one to one."""

    def __init__(self, base: Diagonal | Full):
        self.base = base

    @staticmethod
    def squash(u: Tensor) -> Tensor:
        return 2 * torch.special.ndtr(u) - 1

    @property
    def mean(self) -> Tensor:
        """E[2 Phi(u) - 1] = 2 Phi(m / sqrt(1 + s^2)) - 1."""
        return self.squash(self.base.mean / (1 + self.base.stddev.square()).sqrt())

    @property
    def stddev(self) -> Tensor:
        """By Gauss-Hermite quadrature with 64 nodes."""
        import numpy as np

        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        weight = torch.tensor(weights / weights.sum()).to(self.base.mean)
        u = self.base.mean[..., None] + self.base.stddev[..., None] * torch.tensor(nodes).to(self.base.mean)
        value = self.squash(u)
        gap = value - (value * weight).sum(-1, keepdim=True)
        return (gap.square() * weight).sum(-1).sqrt()

    def sample(self, noise: Tensor | None = None) -> Tensor:
        return self.squash(self.base.sample(noise))


class Point:
    """A code without spread: what a deterministic encoder returns."""

    def __init__(self, mean: Tensor):
        self.mean = mean.float()

    @property
    def stddev(self) -> Tensor:
        return torch.zeros_like(self.mean)

    def sample(self, noise: Tensor | None = None) -> Tensor:
        return self.mean


def fill(values: tuple[float, ...], z: int, name: str) -> Tensor:
    """(Z,) from one number or Z of them."""
    if len(values) not in (1, z):
        raise ValueError(f"{name} has {len(values)} numbers; give one, or one per dimension of the code ({z})")
    return torch.tensor(values, dtype=torch.float32).expand(z).clone()


def cholesky_factor(values: tuple[float, ...], z: int) -> Tensor:
    """(Z, Z) lower triangular from one number, Z numbers (its diagonal) or Z (Z + 1) / 2 (row by row)."""
    if len(values) != z * (z + 1) // 2 or z == 1:
        scale = torch.diag(fill(values, z, "prior_scale"))
    else:
        scale = torch.zeros(z, z)
        scale[tuple(torch.tril_indices(z, z))] = torch.tensor(values, dtype=torch.float32)
    if (scale.diagonal() <= 0).any():
        raise ValueError("prior_scale needs positive numbers on its diagonal")
    return scale
