"""Gaussian mixture with full covariances on the codes (Ghosh et al. 2020, arXiv:1903.12436, section 4: ex-post density
estimation). Fitted by EM (Dempster, Laird & Rubin 1977), each covariance shrunk towards the one that all components share
(the posterior mode under an inverse Wishart prior, Fraley & Raftery 2007, J. Classification 24, section 3).

A round of EM is two matrix products with the codes' monomials (1, z_i, z_i z_j): the log densities of the components are
linear in them, and so are the sums that the next components are made of."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from latentforge.parts.gaussian import LOG_2PI
from latentforge.samplers.common import location_and_scale, one_thread

FLOOR = 1e-5  # added to the variances, in units of each dimension's variance
ROUNDS = 20  # of EM; fewer where one gains less than GAIN nats
GAIN = 4e-3
MEMORY = 2**23  # numbers: monomials at a time
WORK = 2**24  # numbers: monomials of all codes, where there are more than 20,000 of them


class GaussianMixture(nn.Module):
    """K components over codes of size Z: weights (K,), means (K, Z), Cholesky factors (K, Z, Z)."""

    kind = "gmm"
    classes = 0  # no labels needed; those given are ignored
    weights: Tensor
    means: Tensor
    scales: Tensor

    def __init__(self, components: int, size: int):
        super().__init__()
        self.scores: dict[str, float] = {}
        self.register_buffer("weights", torch.zeros(components))
        self.register_buffer("means", torch.zeros(components, size))
        self.register_buffer("scales", torch.zeros(components, size, size))

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "gmm", "components": len(self.weights), "size": self.means.shape[1], "scores": self.scores}

    @classmethod
    def fit(cls, codes: Tensor, components: int | None = None, limit: int | None = None) -> GaussianMixture:
        """Maximum likelihood on at most `limit` codes (N, Z) spread over the data, N >= 1 (default: 20,000 to
        100,000, fewer the larger Z is); by default one component per 250 codes and no fewer than 10 Z, from 1 to 200. A single
        component is shrunk towards equal variances as far as N calls for (Ledoit & Wolf 2004, J. Multivariate Analysis
        88), so that it is a density for any N."""
        z = codes.shape[1]
        limit = limit or min(100_000, max(20_000, WORK // (z * (z + 3) // 2 + 1)))
        codes = codes[:: -(-len(codes) // limit)].cpu()
        mean, scale = location_and_scale(codes)
        k = components or max(1, min(200, len(codes) // max(250, 10 * z)))
        weights, means, covariances = estimate((codes.double() - mean) / scale, k)
        out = cls(k, z)
        out.weights.copy_(weights)
        out.means.copy_(mean + scale * means)
        out.scales.copy_(scale[:, None] * torch.linalg.cholesky(covariances))
        return out

    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(z) of codes (N, Z) in nats: (N,), computed on the CPU in float64."""
        with one_thread():
            z, means, scales = codes.cpu().double(), self.means.cpu().double(), self.scales.cpu().double()
            parts = []
            for weight, mean, scale in zip(self.weights.cpu().double(), means, scales, strict=True):
                d = torch.linalg.solve_triangular(scale, (z - mean).T, upper=False)  # (Z, N)
                log_det = scale.diagonal().log().sum()
                parts.append(weight.log() - 0.5 * (d.square().sum(0) + len(d) * LOG_2PI) - log_det)
            return torch.stack(parts).logsumexp(0).to(codes.device, torch.float32)

    def draw(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """(n, Z) codes on the CPU, the same for any number of threads."""
        weights, means, scales = self.weights.cpu(), self.means.cpu(), self.scales.cpu()
        with one_thread():
            component = torch.multinomial(weights, n, replacement=True, generator=generator)
            out = torch.randn(n, means.shape[1], generator=generator)
            for k in component.unique().tolist():
                rows = component == k
                out[rows] = means[k] + out[rows] @ scales[k].T
        return out


def estimate(codes: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (k,), means (k, Z) and covariances (k, Z, Z) for standardised codes (N, Z) in float64. On one thread: the
    codes drawn do not depend on how many there are."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.covariance import ledoit_wolf

    n, z = codes.shape
    floor = FLOOR * torch.eye(z, dtype=torch.float64)
    with warnings.catch_warnings(), thread_pools().limit(limits=1), one_thread():
        warnings.simplefilter("ignore")  # fewer distinct codes than components
        if k == 1:
            covariance = torch.from_numpy(ledoit_wolf(codes.numpy())[0]).double()
            return torch.ones(1), torch.zeros(1, z), (covariance + floor)[None]
        start = MiniBatchKMeans(k, n_init=1, batch_size=4096, random_state=0).fit(codes.numpy())
        nearest = torch.nn.functional.one_hot(torch.from_numpy(start.labels_).long(), k).double()
        rows, columns = torch.triu_indices(z, z)
        parts = codes.split(max(1, MEMORY // (z * (z + 3) // 2 + 1)))
        sums = sum(r.T @ monomials(c, rows, columns) for c, r in zip(parts, nearest.split(len(parts[0])), strict=True))
        before = -math.inf
        for _ in range(ROUNDS):
            weights, means, covariances = mixture = components_of(sums, z, rows, columns, floor)
            linear = coefficients(*mixture, rows, columns)
            sums, total = torch.zeros_like(sums), 0.0
            for part in parts:
                m = monomials(part, rows, columns)
                log_density = m @ linear.T
                evidence = log_density.logsumexp(1, keepdim=True)
                sums += (log_density - evidence).exp_().T @ m
                total += float(evidence.sum())
            if total / n < before + GAIN:
                break
            before = total / n
    return weights, means, covariances


@cache
def thread_pools() -> Any:
    """Those of the libraries that are loaded now, scikit-learn's among them. To look for them anew for each of a thousand
    classes would take longer than the fits."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def monomials(codes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, Z) -> (N, 1 + Z + Z (Z + 1) / 2): 1, z_i and z_i z_j for i <= j."""
    return torch.cat([torch.ones_like(codes[:, :1]), codes, codes[:, rows] * codes[:, columns]], 1)


def components_of(sums: Tensor, z: int, rows: Tensor, columns: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and covariances from each component's share (K, 1 + Z + Z (Z + 1) / 2) of the monomials' sums."""
    count = sums[:, 0].clamp_min(1e-9)
    means = sums[:, 1 : 1 + z] / count[:, None]
    scatter = torch.zeros(len(sums), z, z, dtype=torch.float64)
    scatter[:, rows, columns] = scatter[:, columns, rows] = sums[:, 1 + z :]
    scatter -= count[:, None, None] * means[:, :, None] * means[:, None]
    shared, prior = scatter.sum(0) / count.sum(), 2 * z  # as if each component had seen 2 Z codes of what all share
    covariances = (scatter + prior * shared) / (count + prior)[:, None, None] + floor
    return count / count.sum(), means, covariances


def coefficients(weights: Tensor, means: Tensor, covariances: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of log w_k + log N(z; m_k, C_k) in the monomials of z: (K, 1 + Z + Z (Z + 1) / 2)."""
    z = means.shape[1]
    precision, log_det = torch.linalg.inv(covariances), torch.linalg.slogdet(covariances)[1]
    first = (precision @ means[:, :, None])[:, :, 0]
    constant = weights.log() - 0.5 * (z * LOG_2PI + log_det + (means * first).sum(1))
    second = torch.where(rows == columns, -0.5, -1.0) * precision[:, rows, columns]
    return torch.cat([constant[:, None], first, second], 1)
