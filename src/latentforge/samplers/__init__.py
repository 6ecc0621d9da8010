"""Densities over codes, fitted after training and saved with the model. `prior` means none."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from latentforge.errors import RunError
from latentforge.samplers.gmm import GaussianMixture

Sampler = Literal["prior", "gmm"]


def fit(kind: str, codes: Tensor) -> nn.Module:
    """The sampler `kind` fitted to codes (N, Z)."""
    if not codes.isfinite().all():
        raise RunError("the encoder's codes are not finite, so no sampler can be fitted; lower --lr or set --clip 1.")
    return {"gmm": GaussianMixture}[kind].fit(codes)


def build(config: dict[str, Any]) -> nn.Module:
    """An unfitted sampler of the shape `sampler.config` describes, ready for its saved tensors."""
    sizes = dict(config)
    return {"gmm": GaussianMixture}[sizes.pop("kind")](**sizes)
