"""The model's own measures over held-out images, each beside what needs no learning of ours."""

from __future__ import annotations

from typing import Any

import torch

from latentforge.measures import measures
from latentforge.metrics.codes import one_nn
from latentforge.metrics.intervals import around_mean
from latentforge.metrics.subject import COMPONENTS, Row, Subject, some
from latentforge.parts.likelihood import bernoulli_floor, bernoulli_nll

NEIGHBOURS = 10_000  # labelled images that the baseline of an error looks at


def rows(s: Subject) -> list[Row]:
    return [
        {"measure": name, **around_mean(values), "better": better(name), **baseline(name, s), "images": len(values)}
        for name, values in measures(s.model, s.held, s.seed).items()
    ]


def better(name: str) -> str:
    state = "logit" in name or name.startswith("critic_")  # of the game, where neither end is good
    return "" if state or name in ("kl_nats", "spoilt_mse", "entropy_nats") else "lower"


def baseline(name: str, s: Subject) -> dict[str, Any]:
    if name == "error":
        images, held = some(s.data.train.labelled(), NEIGHBOURS), some(s.held, len(s.held))
        pca = s.pca(COMPONENTS)
        assert images.label is not None
        wrong = one_nn(pca(images.image), images.label, pca(held.image)) != held.label
        return {"baseline": float(wrong.double().mean()), "which": f"1-NN on PCA-{len(pca.variances)}"}
    if name == "reconstruction_mse":
        pca = s.pca(s.model.latent_dim)
        return {"baseline": float((pca.reconstruct(s.real) - s.real).square().mean()),
                "which": f"PCA-{len(pca.variances)}",
                "reference": float((s.train.mean(0) - s.real).square().mean()), "is": "mean image"}  # fmt: skip
    if name == "loss_nats" and getattr(s.model, "likelihood", "bernoulli") == "bernoulli":
        logits = torch.logit(s.train.mean(0).clamp(1e-4, 1 - 1e-4)).expand_as(s.real)
        return {"baseline": float(bernoulli_nll(logits, s.real).mean()), "which": "independent pixels",
                "reference": float(bernoulli_floor(s.real).mean()), "is": "floor of this loss"}  # fmt: skip
    return {}
