"""Codes of images by search, for decoders that have no encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.errors import InputError
from latentforge.game import Game, evaluating

STARTS = 64  # codes drawn per image, of which the best one is the start


def invert(
    model: Game, images: Tensor, y: Tensor | None = None, steps: int = 200, lr: float = 0.05, seed: int = 0
) -> Tensor:  # fmt: skip
    """Codes (N, Z) whose images come near images (N, C, H, W) in [0, 1] in squared error: the best of drawn codes, then
    Adam on the code with the weights fixed; `y` (N, ...) is what a conditional model is told. The same way for every
    decoder; it may end in a poor local minimum.
    InputError for models that can draw no codes to start from."""
    if not model.can_sample:
        raise InputError(f"{model.name} has nothing to draw codes from; train with --sampler gmm, flow or auto.")
    x = images.to(model.device)
    drawn = model.draw_codes(STARTS, seed).to(model.device)
    error = torch.stack([(model.decode(z.expand(len(x), -1), y) - x).square().flatten(1).mean(1) for z in drawn])
    code = drawn[error.argmin(0)].clone().requires_grad_(True)
    optimizer = torch.optim.Adam([code], lr)
    y = None if y is None else y.to(model.device)
    with evaluating(model):
        for _ in range(steps):
            loss = (model.to_unit(model.generate(code, y)) - x).square().flatten(1).mean(1).sum()
            (code.grad,) = torch.autograd.grad(loss, code)
            optimizer.step()
    return code.detach()
