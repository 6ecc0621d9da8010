"""Restoration: clean images from what an operator left of them.

A model trained for it answers at once. Any decoder can be asked which of its images would have looked like what was seen:
the per-image refinement of article 001, section 3.3, through the operator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.data.batch import Batch, at_once
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.parts.operators import KINDS, TASKS, Operator, operator_of, parse
from latentforge.tasks.encode import images_of
from latentforge.tasks.invert import invert, need_codes

BATCH = 256


def operator_for(model: Game, task: str | None = None, text: str | None = None) -> Operator:
    """The operator to undo: the one a restorer was trained for, which what is asked for must agree with; else what is asked
    for. InputError otherwise."""
    if model.has_restorer:
        own = model.operator
        if text is not None and parse(text) != own:
            raise InputError(f"{model.name} was trained to undo {own}, not {parse(text)}; train one for that.")
        if task is not None and task != model.args["task"]:
            raise InputError(
                f"{model.name} was trained for {model.args['task']}, not {task}; train one with --task {task}."
            )
        return own
    need_codes(model)
    if task is None and text is None:
        raise InputError(f"{model.name} can undo anything; say what: --task {', '.join(TASKS)}, or --operator.")
    found = operator_of(task or "enhance", text or "")
    if task is not None and found.kind not in KINDS[task]:
        raise InputError(
            f"{found} is not what --task {task} undoes; give one of the two, or {' or '.join(KINDS[task])}."
        )
    return found


def restore(
    model: Game,
    images: Tensor,
    operator: Operator | str | None = None,
    *,
    mask: Tensor | None = None,
    size: tuple[int, int] | None = None,
    steps: int = 200,
    lr: float = 0.05,
    prior: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Clean images (N, C, H, W) in [0, 1] from degraded ones.

    images: (N, C, h, w) in [0, 1] or bytes, or observations as an operator makes them. A restorer takes images of any size.
    operator: how they were degraded, such as "blur:1"; a restorer knows its own.
    mask: (N or 1, 1, H, W), 1 where a pixel is known, for operators that hide pixels; else the operator's own.
    size: (H, W) of what a restorer is to give under `downsample`, where its factor had cut pixels off.
    steps, lr, prior: of the search for codes, as in `invert`; a restorer has none. `seed` of its starts.
    InputError where the model can do neither, or the images do not fit.
    """
    operator = operator_for(model, None, operator) if operator is None or isinstance(operator, str) else operator
    if model.has_restorer and operator != model.operator:
        raise InputError(f"{model.name} was trained to undo {model.operator}, not {operator}; train one for that.")
    images = torch.as_tensor(images)
    c, h, w = model.image_shape
    channels = c + operator.masks
    if images.dim() != 4 or images.shape[1] not in (c, channels):
        raise InputError(f"images {tuple(images.shape)} do not fit the model, which needs (N, {c}, H, W).")
    if not images.is_floating_point():  # bytes; floats may lie beyond [0, 1], where noise took them
        images = images_of(images)[torch.arange(len(images))].image
    if operator.masks and images.shape[1] == channels:
        if mask is not None:
            raise InputError("the images carry their mask as a last channel; leave out mask.")
        seen = images
    else:
        seen = operator.observe(images, mask)
    if model.has_restorer:
        at = at_once((channels, operator.factor * seen.shape[2], operator.factor * seen.shape[3]), BATCH)
        return torch.cat([model.restore(y, size).cpu() for y in seen.split(at)])
    small = (-(-h // operator.factor), -(-w // operator.factor))
    if tuple(seen.shape[2:]) != small:
        raise InputError(
            f"degraded images of {tuple(seen.shape[2:])} (H, W) do not fit: under {operator} the model's "
            f"{(h, w)} are seen as {small}; give --image-size {small[0]}x{small[1]}."
        )
    out = []
    for y in seen.split(at_once((c, h, w), BATCH)):
        guess = operator.naive(y, (h, w)).clamp(0, 1).to(model.device)
        told = model.told_with(Batch(guess, None, torch.arange(len(y))))
        codes = invert(model, y, told, steps, lr, seed, operator, prior)
        out.append(operator.keep(model.decode(codes, told), y.to(model.device)).cpu())
    return torch.cat(out)
