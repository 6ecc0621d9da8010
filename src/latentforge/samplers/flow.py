"""Masked autoregressive flow on the codes (Papamakarios, Pavlakou & Murray 2017, arXiv:1705.07057): each layer shifts
and scales every dimension by a function of those before it, z_i = x_i exp(s_i(x_<i)) + t_i(x_<i). The affine coupling
of RealNVP (Dinh et al. 2017, arXiv:1605.08803) is the special case of two groups of dimensions; at equal time it fitted
worse on all sets tried. With labels, s and t also see the class. A single dimension has none before it: there the
flow is a Gaussian, of each class."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from latentforge.parts.gaussian import LOG_2PI
from latentforge.samplers.autoregressive import Layer
from latentforge.samplers.common import check_labels, one_thread
from latentforge.samplers.gmm import GaussianMixture


class Flow(nn.Module):
    """A flow over codes of size Z: whitened by `mean` (Z,) and `scale` (Z, Z), the Cholesky factor of their covariance,
    then `layers` autoregressive steps, each in another `order` (layers, Z) of the dimensions, to N(0, I). Untrained it
    is one Gaussian. With K `classes`, a class whose `known` (K,) is 0 has the density of all codes."""

    kind = "flow"
    mean: Tensor
    scale: Tensor
    order: Tensor
    known: Tensor

    def __init__(self, size: int, classes: int = 0, layers: int = 8, hidden: int = 128):
        super().__init__()
        self.scores: dict[str, float] = {}
        self.classes = classes
        self.sizes = {"size": size, "classes": classes, "layers": layers, "hidden": hidden}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.ModuleList(Layer(size, classes, hidden) for _ in range(layers))
            order = torch.stack([torch.randperm(size) for _ in range(layers)])
        order[1::2] = order[0::2].flip(1)[: layers // 2]  # each second layer goes backwards
        self.register_buffer("order", order)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.eye(size))
        self.register_buffer("known", torch.ones(classes))
        self.requires_grad_(False)

    @property
    def steps(self) -> list[Layer]:
        return cast(list[Layer], list(self.layers))

    @property
    def config(self) -> dict[str, Any]:
        return {"kind": "flow", **self.sizes, "scores": self.scores}

    @classmethod
    def fit(cls, codes: Tensor, labels: Tensor | None = None, classes: int = 0, steps: int = 1000,
            limit: int = 20_000) -> Flow:  # fmt: skip
        """Maximum likelihood on at most `limit` codes (N, Z) spread over the data, with their labels (N,) in
        0..classes-1 where classes > 0. Deterministic, on one thread: 20,000 codes of size 20 take 5 to 10 s."""
        labels = torch.zeros(len(codes), dtype=torch.long) if labels is None else labels.cpu()
        stride = -(-len(codes) // limit)
        codes, labels = codes[::stride].cpu(), labels[::stride]
        with one_thread(), torch.inference_mode(False), torch.enable_grad():
            out = cls(codes.shape[1], classes)
            gaussian = GaussianMixture.fit(codes, components=1)
            out.mean.copy_(gaussian.means[0])
            out.scale.copy_(gaussian.scales[0])
            out.known.copy_(torch.bincount(labels, minlength=classes)[:classes] >= 2)
            out.maximise(out.whiten(codes), out.one_hot(labels), steps)
        return out

    def maximise(self, x: Tensor, y: Tensor, steps: int, batch: int = 512, rate: float = 7e-3) -> None:
        """Adam with a cosine rate on nine tenths of the whitened codes; keeps the weights best on the last tenth."""
        generator = torch.Generator().manual_seed(0)
        shuffle = torch.randperm(len(x), generator=generator)
        aside = max(1, len(x) // 10)
        held, rest = shuffle[:aside], shuffle[aside:] if len(x) > 1 else shuffle
        drop = 0.0 if self.known.all() else 0.1  # of the labels, for the density of all codes
        weights = list(self.layers.requires_grad_().parameters())
        adam = torch.optim.Adam(weights, fused=True)
        best, kept = -math.inf, copy.deepcopy(self.layers.state_dict())
        for step in range(steps):
            if step % 50 == 0 or step == steps - 1:
                with torch.no_grad():
                    score = float(self.density(x[held], y[held]).mean())
                if score > best:
                    best, kept = score, copy.deepcopy(self.layers.state_dict())
            adam.param_groups[0]["lr"] = 0.5 * rate * (1 + math.cos(math.pi * step / steps))
            rows = rest[torch.randint(len(rest), (batch,), generator=generator)]
            shown = torch.rand(batch, 1, generator=generator) >= drop
            adam.zero_grad()
            (-self.density(x[rows], y[rows] * shown).mean()).backward()
            nn.utils.clip_grad_norm_(weights, 5.0)
            adam.step()
        self.layers.load_state_dict(kept)
        self.layers.requires_grad_(False)

    def one_hot(self, labels: Tensor) -> Tensor:
        """(N, K), zero for a class that is not known; (N, 0) without classes."""
        return (labels[:, None] == torch.arange(self.classes)) * self.known

    def whiten(self, codes: Tensor) -> Tensor:
        gap = (codes.to(self.mean) - self.mean).double()
        return torch.linalg.solve_triangular(self.scale.double(), gap.T, upper=False).T.to(self.mean)

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
            y = flow.one_hot(check_labels(labels, len(codes), self.classes))
            log_p = flow.density(flow.whiten(codes.cpu()), y) - flow.scale.diagonal().log().sum()
        return log_p.to(codes.device)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """(n, Z) codes on the CPU, of the classes `labels` (n,) where there are any; the same for any number of
        threads."""
        flow = on_cpu(self)
        with one_thread():
            y = flow.one_hot(check_labels(labels, n, self.classes))
            x = torch.randn(n, len(self.mean), generator=generator)
            for layer, order in zip(flow.steps[::-1], flow.order.flip(0), strict=True):
                x = layer.inverse(x, y)[:, order.argsort()]
            return flow.mean + x @ flow.scale.T


def on_cpu(flow: Flow) -> Flow:
    return flow if flow.mean.device.type == "cpu" else copy.deepcopy(flow).cpu()
