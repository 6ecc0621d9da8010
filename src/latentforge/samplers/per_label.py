"""One density over codes for each class."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from latentforge.samplers.common import check_labels


class PerLabel(nn.Module):
    """p(z | y) as one sampler per class. (The flow takes its classes as an input and needs none of this.)"""

    parts: Any  # an nn.ModuleList of one sampler per class

    def __init__(self, parts: list[Any]):
        super().__init__()
        self.scores: dict[str, float] = {}
        self.parts = nn.ModuleList(parts)
        self.kind: str = parts[0].kind
        self.classes = len(parts)

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": [part.config for part in self.parts], "scores": self.scores}

    @classmethod
    def fit(cls, one: Callable[..., Any], codes: Tensor, labels: Tensor, classes: int, limit: int = 20_000) -> PerLabel:
        """`one`, a sampler's fit, on the codes (N, Z) of each class, in all about `limit` of them but up to 1000 of
        each. A class with fewer than 2 codes gets the density of all codes."""
        limit = max(1000, limit // classes)
        groups = [codes[labels == k] for k in range(classes)]
        everything = one(codes, limit=limit) if min(map(len, groups)) < 2 else None
        return cls([one(g, limit=limit) if len(g) > 1 else copy.deepcopy(everything) for g in groups])

    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(z | y) of codes (N, Z) with labels (N,), in nats: (N,)."""
        labels = check_labels(labels, len(codes), self.classes)
        out = codes.new_zeros(len(codes), dtype=torch.float32)
        for k in labels.unique().tolist():
            rows = (labels == k).to(codes.device)
            out[rows] = self.parts[k].log_prob(codes[rows])
        return out

    def draw(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """(n, Z) codes on the CPU, row i of class labels[i]; drawn class by class."""
        labels = check_labels(labels, n, self.classes)
        size = self.parts[0].means.shape[1]
        out = torch.zeros(n, size)
        for k in labels.unique().tolist():
            rows = labels == k
            out[rows] = self.parts[k].draw(int(rows.sum()), generator)
        return out
