"""Gaussian mixture with full covariances on the codes (Ghosh et al. 2020, arXiv:1903.12436, section 4: ex-post density
estimation). Fitted by scikit-learn's EM."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn


class GaussianMixture(nn.Module):
    """K components over codes of size Z: weights (K,), means (K, Z), Cholesky factors (K, Z, Z)."""

    weights: Tensor
    means: Tensor
    scales: Tensor

    def __init__(self, components: int, size: int):
        super().__init__()
        self.register_buffer("weights", torch.zeros(components))
        self.register_buffer("means", torch.zeros(components, size))
        self.register_buffer("scales", torch.zeros(components, size, size))

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "gmm", "components": len(self.weights), "size": self.means.shape[1]}

    @classmethod
    def fit(cls, codes: Tensor, components: int | None = None, limit: int = 20_000) -> GaussianMixture:
        """Maximum likelihood on at most `limit` codes (N, Z) spread over the data; by default one component per 100
        codes, from 1 to 50."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as EM
        from threadpoolctl import threadpool_limits

        codes = codes[:: -(-len(codes) // limit)].double()
        k = components or max(1, min(50, len(codes) // 100))
        # one thread: EM's products are so small that two threads on a busy machine took a hundred times as long
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # EM still improving by 1e-3 nats is no fault here
            em = EM(k, covariance_type="full", reg_covar=1e-5, max_iter=100, random_state=0).fit(codes.numpy())
        out = cls(k, codes.shape[1])
        out.weights.copy_(torch.from_numpy(em.weights_))
        out.means.copy_(torch.from_numpy(em.means_))
        out.scales.copy_(torch.linalg.cholesky(torch.from_numpy(em.covariances_)))
        return out

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, Z) codes."""
        component = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator)
        return self.means.cpu()[component] + (self.scales.cpu()[component] @ noise[:, :, None])[:, :, 0]
