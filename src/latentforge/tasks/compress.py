"""Images as a small file: the codes of a model, rounded (`quantise.py`) and entropy-coded (`coding.py`). The network itself is
not in the file, and whoever opens it needs the same one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.errors import InputError
from latentforge.files import atomic, place
from latentforge.game import Game
from latentforge.saving import plain
from latentforge.tasks.coding import Packed, constriction, opened, pack, unpack
from latentforge.tasks.encode import Pictures, embed, images_of
from latentforge.tasks.output import writing
from latentforge.tasks.quantise import dequantise, quantise, sensitivity

STEP = 0.03
FINEST, WIDEST = 1e-4, 1e6  # steps; finer ones than the first change nothing that could be seen
HALVINGS = 12  # of the interval in which the step for a given rate lies


@dataclass(frozen=True)
class Compressed:
    """What `compress` wrote. Bits are those of the whole file, over all pixels (of all channels together)."""

    file: str
    images: int
    bytes: int
    bits_per_pixel: float
    step: float


def compress(
    model: Game, images: Pictures, file: str | Path, step: float | None = None, bits_per_pixel: float | None = None
) -> Compressed:  # fmt: skip
    """Write the codes of images (N, C, H, W) in [0, 1] to a file.

    step: root mean square change of the pixels by one step of a number of the code; .03 where nothing is given.
    bits_per_pixel: choose the smallest step, from about .0001 on, whose file has at most so many, header included.

    A conditional model's classes are stored too. InputError where the model cannot encode, where it is told descriptors, where
    the rate cannot be had, and where the extra `codec` is missing.
    """
    constriction()
    file = place(file)
    if step is not None and bits_per_pixel is not None:
        raise InputError("step and bits_per_pixel were both given; give one of them.")
    for name, value in (("step", step), ("bits_per_pixel", bits_per_pixel)):
        if value is not None and not 0 < value <= WIDEST:
            raise InputError(f"{name} {value:g} is not possible; give a number above 0, {WIDEST:g} at most.")
    split = images_of(images)
    if not len(split):
        raise InputError("there are no images to compress; give at least one.")
    codes = embed(model, split)[0].double().numpy()
    if not np.isfinite(codes).all():
        raise InputError(f"{model.name} gives codes that are not finite; train it anew.")
    labels = labels_to_store(model, split)
    sensitive = sensitivity(model, torch.from_numpy(codes).float(), labels)
    whose: dict[str, Any] = {
        "model": model.name,
        "fingerprint": fingerprint(model),
        "image_shape": tuple(model.image_shape),
    }
    if labels is not None and model.condition is not None:
        whose |= {"labels": labels.numpy(), "classes": model.condition.size}

    def packed(at: float) -> bytes:
        return pack(Packed(**whose, **quantise(codes, sensitive, at)))

    if bits_per_pixel is None:
        step = STEP if step is None else step
        data = packed(step)
    else:
        pixels = len(split) * math.prod(model.image_shape[1:])
        step, data = smallest_step(packed, int(bits_per_pixel * pixels / 8))
    with writing(file), atomic(file) as part:
        part.write_bytes(data)
    size = file.stat().st_size
    return Compressed(str(file), len(split), size, 8 * size / (len(split) * math.prod(model.image_shape[1:])), step)


def decompress(model: Game, file: str | Path) -> Tensor:
    """The images (N, C, H, W) in [0, 1] of a file that `compress` wrote with this model. InputError where it is damaged or
    another model's."""
    return decoded(model, file)[0]


def decoded(model: Game, file: str | Path) -> tuple[Tensor, Tensor | None]:
    """Images (N, C, H, W), and their classes (N,) where the model was told them."""
    file = place(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}); give a file that 'latentforge compress' wrote."
        ) from None
    mark, name = opened(data, str(file))
    if all(mark != fingerprint(model, arguments) for arguments in (None, model.args, model.loaded_args)):
        raise InputError(f"{file} was written with another model, a {name}; decompress it with the run that wrote it.")
    p = unpack(data, str(file))
    labels = None if p.labels is None else torch.from_numpy(p.labels)
    return model.decode(torch.from_numpy(dequantise(p)), labels).cpu(), labels


def labels_to_store(model: Game, images: Images) -> Tensor | None:
    """The classes (N,) the decoder has to be told, None where it is told nothing."""
    if model.condition is None:
        return None
    if not model.condition.classes:
        raise InputError(
            f"{model.name} is conditioned on descriptors, for which the file has no place; take another model."
        )
    return model.codes_of(images)[1]


def fingerprint(model: Game, arguments: dict[str, Any] | None = None) -> bytes:
    """8 bytes of the sha256 over a model's name and weights; a sampler fitted to its codes changes nothing. Files of version 1
    have one over its `arguments` too, which are others in a version of its class that has more of them."""
    known = [model.name] if arguments is None else [model.name, plain(arguments)]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith("sampler."):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()[:8]


def smallest_step(packed: Callable[[float], bytes], most: int) -> tuple[float, bytes]:
    """The smallest step found whose file has at most `most` bytes, and the file. InputError where none has."""
    fine = coarse = STEP
    data = packed(coarse)
    while len(data) > most:
        if coarse > WIDEST:
            raise InputError(
                f"a file of {most:,} bytes cannot be had, {len(data):,} are the least; allow more bits per pixel."
            )
        fine, coarse = coarse, 2 * coarse
        data = packed(coarse)
    while fine == coarse and fine > FINEST:
        try:
            less = packed(fine / 2)
        except InputError:  # as fine as numbers can be
            break
        fine /= 2
        if len(less) <= most:
            coarse, data = fine, less
    for _ in range(HALVINGS if fine < coarse else 0):
        middle = math.sqrt(fine * coarse)
        tried = packed(middle)
        if len(tried) <= most:
            coarse, data = middle, tried
        else:
            fine = middle
    return coarse, data


def squared_error(rebuilt: Tensor, images: Images) -> float:
    """Mean squared error of images (N, C, H, W) against the originals, over all pixels and channels."""
    total = sum(float((rebuilt[b.index.cpu()] - b.image.cpu()).double().square().sum()) for b in images.batches())
    return total / rebuilt.numel()
