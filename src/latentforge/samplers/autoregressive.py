"""The step of a masked autoregressive flow (Papamakarios, Pavlakou & Murray 2017, arXiv:1705.07057, equations 3 to 5,
in the direction of its inverse: from codes to noise)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIMIT = 0.5  # largest |s| of a layer; 1 and 2 gave held-out codes up to 0.5 nats less


class Layer(nn.Module):
    """One autoregressive step with a hidden layer, masked as in MADE (Germain et al. 2015, arXiv:1502.03509, equations
    8 and 9): hidden unit j sees the first `degree[j]` dimensions, the class, and serves the dimensions after."""

    see: Tensor
    serve: Tensor

    def __init__(self, size: int, classes: int, hidden: int):
        super().__init__()
        self.first, self.last = nn.Linear(size + classes, hidden), nn.Linear(hidden, 2 * size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        degree, place = torch.arange(hidden) % size, torch.arange(size)
        see = torch.cat([place[None] < degree[:, None], torch.ones(hidden, classes, dtype=torch.bool)], 1)
        self.register_buffer("see", see.float(), persistent=False)
        self.register_buffer("serve", (degree[None] <= place[:, None]).float().repeat(2, 1), persistent=False)

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.first.weight * self.see, self.first.bias, self.last.weight * self.serve, self.last.bias

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, Z) and log |det dz/dx| (N,) of x (N, Z) and one-hot classes (N, K)."""
        a, a0, b, b0 = self.weights()
        raw, shift = F.linear(F.linear(torch.cat([x, y], 1), a, a0).relu(), b, b0).chunk(2, 1)
        s = LIMIT * torch.tanh(raw / LIMIT)
        return x * s.exp() + shift, s.sum(1)

    def inverse(self, z: Tensor, y: Tensor) -> Tensor:
        """x (N, Z), one dimension after the other; the hidden layer is kept up to date instead of computed anew."""
        a, a0, b, b0 = self.weights()
        size = z.shape[1]
        before, out = F.linear(y, a[:, size:], a0), []
        for i in range(size):
            raw, shift = F.linear(before.relu(), b[i::size], b0[i::size]).unbind(1)
            out.append((z[:, i] - shift) * (-LIMIT * torch.tanh(raw / LIMIT)).exp())
            before = before + out[-1][:, None] * a[:, i]
        return torch.stack(out, 1)
