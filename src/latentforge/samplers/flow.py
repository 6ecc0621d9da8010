"""Masked autoregressive flow on the codes (Papamakarios, Pavlakou & Murray 2017, arXiv:1705.07057): each layer shifts
and scales every dimension by a function of those before it, z_i = x_i exp(s_i(x_<i)) + t_i(x_<i). The affine coupling
of RealNVP (Dinh et al. 2017, arXiv:1605.08803) is the special case of two groups of dimensions. With labels, s and t
also see the class. A single dimension has none before it: there the flow is a Gaussian, of each class."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from latentforge.clock import seeded
from latentforge.parts.gaussian import LOG_2PI
from latentforge.samplers.autoregressive import Layer
from latentforge.samplers.common import check_labels, location_and_scale, one_thread
from latentforge.samplers.gmm import estimate

RATE = 1e-2  # of AdamW, falling to 0
BATCH = 512  # codes in a step


class Flow(nn.Module):
    """A flow over codes of size Z: whitened by `mean` (Z,) and `scale` (Z, Z), a root of their covariance, then `layers`
    autoregressive steps, each in another `order` (layers, Z) of the axes, to N(0, I). Untrained it is one Gaussian. With
    K `classes`, `share` (K,) is each one's part of the codes; a class of fewer than 2 codes has 0 there, and the
    density of all others together."""

    kind = "flow"
    mean: Tensor
    scale: Tensor
    order: Tensor
    share: Tensor

    def __init__(self, size: int, classes: int = 0, layers: int = 8, hidden: int = 128):
        super().__init__()
        self.scores: dict[str, float] = {}
        self.classes = classes
        self.sizes = {"size": size, "classes": classes, "layers": layers, "hidden": hidden}
        with seeded(0):
            self.layers = nn.ModuleList(Layer(size, classes, hidden) for _ in range(layers))
            order = torch.stack([torch.randperm(size) for _ in range(layers)])
        order[1::2] = order[0::2].flip(1)[: layers // 2]  # each second layer goes backwards
        self.register_buffer("order", order)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.eye(size))
        self.register_buffer("share", torch.ones(classes) / max(1, classes))
        self.requires_grad_(False)

    @property
    def steps(self) -> list[Layer]:
        return cast(list[Layer], list(self.layers))

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "flow", **self.sizes, "scores": self.scores}

    @classmethod
    def fit(cls, codes: Tensor, labels: Tensor | None = None, classes: int = 0, limit: int = 20_000) -> Flow:
        """Maximum likelihood on at most `limit` codes (N, Z) spread over the data, with their labels (N,) in
        0..classes-1 where classes > 0. Deterministic, on one thread: 20,000 codes of size 20 take 6 to 10 s."""
        labels = torch.zeros(len(codes), dtype=torch.long) if labels is None else labels.cpu()
        stride = -(-len(codes) // limit)
        codes, labels = codes[::stride].cpu(), labels[::stride]
        with one_thread(), torch.inference_mode(False), torch.enable_grad():
            out = cls(codes.shape[1], classes)
            mean, deviation = location_and_scale(codes)
            covariance = estimate((codes.double() - mean) / deviation, 1)[2][0]
            # principal axes part signal from noise; codes without clear correlations keep the axes they have
            axes = torch.linalg.eigh(covariance.where(covariance.abs() > 0.05, 0)).eigenvectors
            out.mean.copy_(mean)
            out.scale.copy_(deviation[:, None] * (axes @ torch.linalg.cholesky(axes.T @ covariance @ axes)))
            counts = torch.bincount(labels[labels >= 0], minlength=classes)[:classes]
            counts = counts * (counts >= 2)
            out.share.copy_(counts / counts.sum().clamp_min(1))
            if classes or codes.shape[1] > 1:
                out.maximise(out.whiten(codes), out.one_hot(labels))
        return out

    def maximise(self, x: Tensor, y: Tensor) -> None:
        """AdamW with a cosine rate on nine tenths of the whitened codes; keeps the weights best on the last tenth.
        Fewer codes get fewer steps and, as under a prior on the weights, more decay: 3000 were overfitted without."""
        steps, decay = max(200, min(1000, len(x) // 10)), min(10.0, 6000 / len(x))
        generator = torch.Generator().manual_seed(0)
        shuffle = torch.randperm(len(x), generator=generator)
        aside = max(1, len(x) // 10)
        rest = shuffle[aside:] if len(x) > 1 else shuffle
        # where the covariance was raised, noise makes up for it: a collapsed axis is a Gaussian like any other, and
        # not a line whose likelihood has no bound
        blur = (1 - x.var(0, correction=0)).clamp_min(0).sqrt()
        held = x[shuffle[:aside]] + blur * torch.randn(aside, x.shape[1], generator=generator)
        held_y = y[shuffle[:aside]]
        weights = list(self.layers.requires_grad_().parameters())
        adam = torch.optim.AdamW(weights, weight_decay=decay, fused=True)
        best, kept = -math.inf, copy.deepcopy(self.layers.state_dict())
        for step in range(steps):
            if step % 50 == 0 or step == steps - 1:
                with torch.no_grad():
                    score = float(self.density(held, held_y).mean())
                if score > best:
                    best, kept = score, copy.deepcopy(self.layers.state_dict())
            adam.param_groups[0]["lr"] = 0.5 * RATE * (1 + math.cos(math.pi * step / steps))
            rows = rest[torch.randint(len(rest), (BATCH,), generator=generator)]
            blurred = x[rows] + blur * torch.randn(BATCH, x.shape[1], generator=generator)
            adam.zero_grad()
            (-self.density(blurred, y[rows]).mean()).backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            adam.step()
        self.layers.load_state_dict(kept)
        self.layers.requires_grad_(False)

    def one_hot(self, labels: Tensor) -> Tensor:
        """(N, K), zero for a class without a share; (N, 0) without classes."""
        return (labels[:, None] == torch.arange(self.classes)) * (self.share > 0).to(self.mean)

    def whiten(self, codes: Tensor) -> Tensor:
        gap = codes.double() - self.mean.double()
        return torch.linalg.solve(self.scale.double(), gap.T).T.to(self.mean)

    def lost(self, y: Tensor) -> Tensor:
        """(N,) which rows are of a class without a share, where there are classes with one."""
        return self.share.any() & (y.sum(1) == 0)

    def density(self, x: Tensor, y: Tensor) -> Tensor:
        """log p (N,) of whitened codes given one-hot classes: the base's, plus each layer's log determinant."""
        log_det = x.new_zeros(len(x))
        for layer, order in zip(self.steps, self.order, strict=True):
            x, s = layer(x[:, order], y)
            log_det = log_det + s
        return log_det - 0.5 * (x.square() + LOG_2PI).sum(1)

    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(z), or log p(z | y) with labels (N,), of codes (N, Z) in nats: (N,), computed on the CPU."""
        flow = on_cpu(self)
        with one_thread():
            y, x = flow.one_hot(check_labels(labels, len(codes), self.classes)), flow.whiten(codes.cpu())
            log_p = flow.density(x, y)
            lost = flow.lost(y)
            if lost.any():
                ones = [(k, flow.one_hot(k[None]).expand(int(lost.sum()), -1)) for k in flow.share.nonzero()[:, 0]]
                log_p[lost] = torch.stack([flow.share[k].log() + flow.density(x[lost], e) for k, e in ones]).logsumexp(
                    0
                )
            log_p = log_p - flow.scale.double().slogdet().logabsdet
        return log_p.to(codes.device, self.mean.dtype)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """(n, Z) codes on the CPU, of the classes `labels` (n,) where there are any; the same for any number of
        threads."""
        flow = on_cpu(self)
        with one_thread():
            labels = check_labels(labels, n, self.classes)
            lost = flow.lost(flow.one_hot(labels))
            if lost.any():
                labels = labels.clone()
                labels[lost] = torch.multinomial(flow.share, int(lost.sum()), replacement=True, generator=generator)
            y = flow.one_hot(labels)
            x = torch.randn(n, len(self.mean), generator=generator)
            for layer, order in zip(flow.steps[::-1], flow.order.flip(0), strict=True):
                x = layer.inverse(x, y)[:, order.argsort()]
            return flow.mean + x @ flow.scale.T


def on_cpu(flow: Flow) -> Flow:
    return flow if flow.mean.device.type == "cpu" else copy.deepcopy(flow).cpu()
