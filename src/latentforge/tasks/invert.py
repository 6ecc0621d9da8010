"""Codes of images by search, for decoders that have no encoder, and of images of which something else was seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentforge.errors import InputError
from latentforge.game import Game, evaluating
from latentforge.parts.operators import Operator
from latentforge.tasks.encode import images_of, need_shape

STARTS = 64  # codes drawn per image, of which the best one is the start


def need_codes(model: Game) -> None:
    """InputError where there is no decoder, or nothing to draw codes from."""
    if not model.has_decoder:
        raise InputError(f"{model.name} has no decoder to search the codes of; train one that has, such as vae-gan.")
    if not model.can_sample:
        raise InputError(f"{model.name} has nothing to draw codes from; train with --sampler gmm, flow or auto.")


def invert(
    model: Game, images: Any, y: Tensor | None = None, steps: int = 200, lr: float = 0.05, seed: int = 0,
    operator: Operator | None = None, prior: float = 0.0,
) -> Tensor:  # fmt: skip
    """Codes (N, Z) whose images come near images (N, C, H, W) in [0, 1] in squared error: the best of drawn codes, then
    Adam on the code with the weights fixed; `y` (N, ...) is the condition of a conditional model. The same way for every
    decoder; it may end in a poor local minimum. Images are taken as `embed` takes them.

    With an operator A, `images` are observations of which A(decoded image) is to come near, and the encoder's code of the
    initial estimate, where there is an encoder, is a start too. With a `prior` of 1 the code minimises
    ||A x(z) - y||^2 / (2 sigma^2) - log p(z), where the model has such a density: the most probable code.
    InputError for models that can draw no codes to start from, and for images that do not fit."""
    need_codes(model)
    if operator is None:
        split = images_of(images)
        need_shape(model, split.shape, "images")
        images = split[torch.arange(len(split))].image
    guessed, operator = operator is not None and model.has_encoder, operator or Operator()
    seen = images.to(model.device)
    y = None if y is None else y.to(model.device)
    starts = model.draw_codes(STARTS, seed).to(model.device)[:, None].expand(-1, len(seen), -1)
    if guessed:
        size = model.image_shape[1:]
        with torch.no_grad(), evaluating(model):
            guess = model.encode(operator.naive(seen, (size[0], size[1])).clamp(0, 1), y).mean
        starts = torch.cat([starts, guess[None]])
    error = torch.stack([operator.misfit(model.decode(z, y), seen) for z in starts])
    code = starts[error.argmin(0), torch.arange(len(seen), device=model.device)].clone().requires_grad_(True)
    optimizer = torch.optim.Adam([code], lr)
    probable = 2 * operator.scale**2 * prior if model.has_prior and model.has_prior_density else 0.0
    with evaluating(model), torch.enable_grad():
        for _ in range(steps):
            loss = operator.misfit(model.to_unit(model.generate(code, y)), seen)
            if probable:
                loss = loss - probable * model.log_prior(code)
            (code.grad,) = torch.autograd.grad(loss.sum() / seen[0].numel(), code)
            optimizer.step()
    return code.detach()
