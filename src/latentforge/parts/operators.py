"""What stands between an image and what is seen of it, and what can be done about it without learning.

An operator takes images (N, C, H, W) in [0, 1] to observations, y = A x + sigma n with n ~ N(0, I). `naive` brings an
observation back to the size of an image, `misfit` says how badly an image explains it. Observations have the image's
channels; under a mask, one more says which pixels are known. Written as text: `noise:0.5`, `blur:1`, `downsample:4`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from latentforge.clock import Clock
from latentforge.errors import InputError, suggest
from latentforge.parts.corrupt import corrupt
from latentforge.parts.masks import Hole, Lower, Pixels
from latentforge.parts.operator import Operator


class Noise(Operator):
    kind, about = "noise", "Gaussian noise of this standard deviation, below black and above white too"


class Clipped(Operator):
    kind, about = "clipped", "Gaussian noise of this standard deviation, cut off at black and white as files do"

    def __call__(self, x: Tensor, t: Clock) -> Tensor:
        return corrupt(x, "gaussian", self.amount, t)


def blurred(x: Tensor, sigma: float, reach: int) -> Tensor:
    """Images (N, C, H, W) through a Gaussian of `sigma` pixels, cut off beyond `reach`; the edge's pixels go on beyond it."""
    k = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma).square())
    k, c = (k / k.sum()).to(x), x.shape[1]
    for shape, pad in (((1, 1, -1, 1), (0, 0, reach, reach)), ((1, 1, 1, -1), (reach, reach, 0, 0))):
        x = F.conv2d(F.pad(x, pad, mode="replicate"), k.view(shape).repeat(c, 1, 1, 1), groups=c)
    return x


class Blur(Operator):
    kind, about, default = "blur", "a Gaussian kernel of this many pixels, then noise (.01 unless given)", 0.01

    def apply(self, x: Tensor) -> Tensor:
        return blurred(x, self.amount, math.ceil(4 * self.amount))


class Downsample(Operator):
    kind, about = "downsample", "means of squares of this side; the last ones may be cut off"

    @property
    def factor(self) -> int:
        return int(self.amount)

    def check(self) -> None:
        if self.amount != int(self.amount) or self.amount < 2:
            raise InputError(f"{self}: give a whole number of 2 or more, as in downsample:4.")

    def apply(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.factor, ceil_mode=True, count_include_pad=False)

    def naive(self, y: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        h, w = size or (y.shape[2] * self.factor, y.shape[3] * self.factor)
        return y.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)[:, :, :h, :w]


class Faded(Operator):
    kind, about, default = (
        "faded",
        "this share of the contrast about mid-grey is left, then noise (.05 unless given)",
        0.05,
    )

    def check(self) -> None:
        if self.amount > 1:
            raise InputError(f"{self}: give the share of the contrast that is left, above 0 and at most 1.")

    def apply(self, x: Tensor) -> Tensor:
        return 0.5 + self.amount * (x - 0.5)

    def naive(self, y: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        return 0.5 + (y - 0.5) / self.amount


OPERATORS: dict[str, type[Operator]] = {
    o.kind: o for o in (Operator, Noise, Clipped, Blur, Downsample, Faded, Hole, Lower, Pixels)
}
TASKS = {"denoise": "clipped:0.2", "deblur": "blur:1", "superres": "downsample:2", "inpaint": "hole:14",
         "enhance": "faded:0.5"}  # fmt: skip
KINDS = {"denoise": ("noise", "clipped"), "deblur": ("blur",), "superres": ("downsample",),
         "inpaint": ("hole", "lower", "pixels"), "enhance": ("faded", "none")}  # fmt: skip


def parse(text: str) -> Operator:
    """`KIND:AMOUNT` or `KIND:AMOUNT,SIGMA`, such as noise:0.5 or blur:2,0.01; InputError otherwise."""
    kind, _, numbers = text.strip().partition(":")
    if kind not in OPERATORS:
        raise InputError(f"there is no operator '{kind}'.{suggest(kind, OPERATORS)} There are {', '.join(OPERATORS)}.")
    cls = OPERATORS[kind]
    try:
        found = [float(v) for v in numbers.split(",")] if numbers else []
    except ValueError:
        found = [math.nan]
    takes = kind != "none"
    if (len(found) not in ((1, 2) if takes else (0,))) or not all(math.isfinite(v) and v >= 0 for v in found):
        raise InputError(
            f"'{text}' is no operator; write {kind + ':NUMBER' if takes else kind}, as in noise:0.5 or blur:1."
        )
    if takes and found[0] == 0:
        raise InputError(f"'{text}' does nothing; give a number above 0.")
    if len(found) == 2 and (cls.masks or kind in ("noise", "clipped")):
        raise InputError(f"'{text}': {kind} takes one number.")
    sigma = found[1] if len(found) == 2 else (found[0] if kind in ("noise", "clipped") else cls.default)
    operator = cls(found[0] if found else 0.0, sigma)
    operator.check()
    return operator


def operator_of(task: str, text: str = "") -> Operator:
    """The operator written as `text`, or the task's default where that is empty."""
    if task not in TASKS:
        raise InputError(f"there is no task '{task}'.{suggest(task, TASKS)} There are {', '.join(TASKS)}.")
    return parse(text or TASKS[task])


def spoil(images: Tensor, operator: Operator, seed: int = 0) -> Tensor:
    """Observations of images (N, C, H, W) in [0, 1]: deterministic by `seed`."""
    t, out = Clock(seed, images.device), []
    for x in images.split(256):
        t.start_round()
        out.append(operator(x, t))
        t.round += 1
    return torch.cat(out)
