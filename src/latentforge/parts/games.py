"""What goes with each of two published games where an option is not given: networks, steps and weights, by the size of the
image, and by whether images are few. Found by trials on 28 x 28 grey, 32 x 32 and 64 x 64 colour (docs/decisions.md, 36,
51, 64, 78, 79, 96 and 98)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from latentforge.parts.adversarial import Loss


class Defaults(NamedTuple):
    """The options of stage 1 of `vae-gan`, and the share of the budget that stage 0 has."""

    loss: Loss
    norm: bool  # batch norm between the convolutions of decoder and critic
    betas: tuple[float, float]  # Adam's
    lr: float
    penalty: float  # r1 and r2
    batch_size: int
    width: int
    wide: tuple[int, ...]
    share: float
    pixel: float
    mix: float


def r3gan(size: float, side: int) -> Defaults:
    """For images of `size` times 784 numbers. Huang et al. 2024, arXiv:2501.05441."""
    return Defaults(
        "relativistic", False, (0.0, 0.99), lr=4e-3 / size**0.5, penalty=0.003 * size**1.5 if size > 1 else 0.0,
        batch_size=64 if size < 2 else 32, width=32, wide=(512,), share=0.25, pixel=0.02, mix=1.0,
    )  # fmt: skip


def dcgan(size: float, side: int) -> Defaults:
    """For images of `size` times 784 numbers, `side` pixels high or wide. Radford et al. 2016, arXiv:1511.06434."""
    width = max(16, 64 >> max(0, round(math.log2(side / 32))))  # halved where the side is doubled
    return Defaults(
        "nonsaturating", True, (0.5, 0.999), lr=min(8e-4, max(2e-4, 3.13e-3 / size)), penalty=0.0,
        batch_size=64 if size < 8 else 32, width=width, wide=(), share=0.1, pixel=0.2 / size**0.5, mix=0.3,
    )  # fmt: skip


GAMES = {"r3gan": r3gan, "dcgan": dcgan}


def size_of(image_shape: tuple[int, int, int]) -> float:
    """The values of an image in units of 784, at least 1."""
    return max(1.0, math.prod(image_shape) / 784)


def code_size(image_shape: tuple[int, int, int]) -> int:
    """How many dimensions the code of an image has where images are many."""
    return 16 * min(4, round(size_of(image_shape)))


def game_of(image_shape: tuple[int, int, int]) -> str:
    """The game that is played on images of a shape."""
    return "r3gan" if size_of(image_shape) < 2 else "dcgan"


def of_few(image_shape: tuple[int, int, int], game: str) -> dict[str, Any]:
    """What differs where images are few: a density fitted to a thousand codes of 64 dimensions is not that of images, and
    likeness costs coverage (decision 98)."""
    likeness = {"pixel": 0.04 / size_of(image_shape) ** 0.5} if game == "dcgan" else {}
    return {"latent_dim": min(20, code_size(image_shape)), "share": 0.25, **likeness}
