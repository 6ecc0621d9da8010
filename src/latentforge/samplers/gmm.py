"""Gaussian mixture with full covariances on the codes (Ghosh et al. 2020, arXiv:1903.12436, section 4: ex-post density
estimation). Fitted by scikit-learn's EM."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from latentforge.parts.gaussian import LOG_2PI
from latentforge.samplers.common import location_and_scale, one_thread

FLOOR = 1e-5  # added to the variances, in units of each dimension's variance


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
    def fit(cls, codes: Tensor, components: int | None = None, limit: int = 20_000) -> GaussianMixture:
        """Maximum likelihood on at most `limit` codes (N, Z) spread over the data, N >= 1; by default one component
        per 100 codes and no fewer than 10 Z, from 1 to 50. A single component is shrunk towards equal variances as far
        as N calls for (Ledoit & Wolf 2004, J. Multivariate Analysis 88), so that it is a density for any N."""
        codes = codes[:: -(-len(codes) // limit)].cpu()
        mean, scale = location_and_scale(codes)
        k = components or max(1, min(50, len(codes) // max(100, 10 * codes.shape[1])))
        weights, means, covariances = estimate(((codes.double() - mean) / scale).numpy(), k)
        out = cls(k, codes.shape[1])
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


def estimate(codes: Any, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (k,), means (k, Z) and covariances (k, Z, Z) for standardised codes, a float64 array (N, Z)."""
    from sklearn.covariance import ledoit_wolf
    from sklearn.mixture import GaussianMixture as EM
    from threadpoolctl import threadpool_limits

    # one thread: EM's products are so small that two threads on a busy machine took a hundred times as long
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # EM still improving by 1e-3 nats, or fewer distinct codes than components
        if k > 1:
            rounds = max(10, min(100, 3200 // codes.shape[1]))  # a round on 20,000 codes takes time in proportion to Z
            em = EM(k, covariance_type="full", reg_covar=FLOOR, max_iter=rounds, random_state=0).fit(codes)
            weights, means, covariances = (torch.from_numpy(a) for a in (em.weights_, em.means_, em.covariances_))
            return weights, means, covariances
        covariance = torch.from_numpy(ledoit_wolf(codes)[0]).double()
    floor = FLOOR * torch.eye(len(covariance), dtype=torch.float64)
    return torch.ones(1), torch.zeros(1, len(covariance)), (covariance + floor)[None]
