"""What stands between an image and what is seen of it, and what can be done about it without learning.

An operator takes images (N, C, H, W) in [0, 1] to observations, y = A x + sigma n with n ~ N(0, I). `naive` brings an
observation back to the size of an image, `misfit` says how badly an image explains it. Observations have the image's
channels; under a mask, one more says which pixels are known. Written as text: `noise:0.5`, `blur:1`, `downsample:4`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentforge.clock import Clock
from latentforge.errors import InputError, suggest
from latentforge.parts.corrupt import corrupt


@dataclass(frozen=True)
class Operator:
    """The identity with noise of standard deviation `sigma`; base of the others."""

    amount: float = 0.0
    sigma: float = 0.0
    kind: ClassVar[str] = "none"
    about: ClassVar[str] = "nothing is done to the image"
    default: ClassVar[float] = 0.0  # sigma where the text has none
    masks: ClassVar[bool] = False

    def __str__(self) -> str:
        text = self.kind + (f":{self.amount:g}" if self.amount else "")
        return text if self.sigma == self.default or self.kind in ("noise", "clipped") else f"{text},{self.sigma:g}"

    @property
    def factor(self) -> int:
        """By how much sides shrink."""
        return 1

    @property
    def scale(self) -> float:
        """The standard deviation by which an image's misfit is judged: sigma, .1 where an observation has less noise, since
        no decoder is exact."""
        return max(self.sigma, 0.1)

    def check(self) -> None:
        """InputError where the amount is impossible."""

    def apply(self, x: Tensor) -> Tensor:
        """A x, differentiable."""
        return x

    def __call__(self, x: Tensor, t: Clock) -> Tensor:
        """An observation of each image; noise from the clock's round."""
        y = self.apply(x)
        return y + self.sigma * t.randn(*y.shape) if self.sigma else y

    def naive(self, y: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Observations as images of `size` (H, W), without any learning: (N, C, H, W), not clipped."""
        return y

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """||A x - y||^2 summed over what was observed, (N,)."""
        return (self.apply(x) - y).square().flatten(1).sum(1)

    def keep(self, x: Tensor, y: Tensor) -> Tensor:
        """Restored images with what was observed exactly put back."""
        return x

    def observe(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        """The observation that images read from files are; `known` (N or 1, 1, H, W) of a mask."""
        if known is not None:
            raise InputError(f"{self} hides no pixels; leave the mask out, or choose hole, lower or pixels.")
        return images


class Noise(Operator):
    kind, about = "noise", "Gaussian noise of this standard deviation, below black and above white too"


class Clipped(Operator):
    kind, about = "clipped", "Gaussian noise of this standard deviation, cut off at black and white as files do"

    def __call__(self, x: Tensor, t: Clock) -> Tensor:
        return corrupt(x, "gaussian", self.amount, t)


def gaussian_kernel(sigma: float) -> Tensor:
    """(2 r + 1,) weights of a Gaussian of `sigma` pixels, cut off at r = 4 sigma."""
    r = math.ceil(4 * sigma)
    k = torch.exp(-0.5 * (torch.arange(-r, r + 1, dtype=torch.float64) / sigma).square())
    return k / k.sum()


class Blur(Operator):
    kind, about, default = "blur", "a Gaussian kernel of this many pixels, then noise (.01 unless given)", 0.01

    def apply(self, x: Tensor) -> Tensor:
        k = gaussian_kernel(self.amount).to(x)
        c, r = x.shape[1], len(k) // 2
        for shape, pad in (((1, 1, -1, 1), (0, 0, r, r)), ((1, 1, 1, -1), (r, r, 0, 0))):
            x = F.conv2d(F.pad(x, pad, mode="replicate"), k.view(shape).repeat(c, 1, 1, 1), groups=c)
        return x


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


class Mask(Operator):
    """Some pixels are not seen."""

    masks = True

    def known(self, x: Tensor, t: Clock | None) -> Tensor:
        """(N, 1, H, W), 1 where a pixel is seen and 0 where it is not."""
        raise NotImplementedError

    def __call__(self, x: Tensor, t: Clock) -> Tensor:
        return self.join(x, self.known(x, t))

    def join(self, x: Tensor, known: Tensor) -> Tensor:
        known = known.to(x).expand(len(x), 1, *x.shape[2:])
        return torch.cat([x * known, known], 1)

    def naive(self, y: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        x, known = y[:, :-1], y[:, -1:]
        mean = (x * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)
        return x * known + mean * (1 - known)

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return (y[:, -1:] * (x - y[:, :-1])).square().flatten(1).sum(1)

    def keep(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(y[:, -1:] > 0, y[:, :-1], x)

    def observe(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        if known is not None and known.shape[2:] != images.shape[2:]:
            raise InputError(f"the mask is {tuple(known.shape[2:])}, the images {tuple(images.shape[2:])} (H, W).")
        return self.join(images, self.known(images, None) if known is None else known)


class Hole(Mask):
    kind, about = "hole", "a square of this side in the centre is missing"

    def known(self, x: Tensor, t: Clock | None) -> Tensor:
        h, w = x.shape[2:]
        side = int(self.amount)
        if side >= max(h, w):
            raise InputError(f"{self} leaves nothing of images of {h}x{w}; give a smaller one.")
        out = torch.ones(len(x), 1, h, w, device=x.device)
        top, left = max(0, (h - side) // 2), max(0, (w - side) // 2)
        out[:, :, top : top + side, left : left + side] = 0
        return out

    def check(self) -> None:
        if self.amount != int(self.amount):
            raise InputError(f"{self}: give a whole number of pixels, as in hole:14.")


class Lower(Mask):
    kind, about = "lower", "this share of the rows is missing, from below"

    def check(self) -> None:
        if self.amount >= 1:
            raise InputError(f"{self}: give a share of the rows, above 0 and below 1.")

    def known(self, x: Tensor, t: Clock | None) -> Tensor:
        out = torch.ones(len(x), 1, *x.shape[2:], device=x.device)
        out[:, :, x.shape[2] - round(self.amount * x.shape[2]) :] = 0
        return out


class Pixels(Mask):
    kind, about = "pixels", "this share of the pixels is missing, drawn anew for every image"

    def check(self) -> None:
        if self.amount >= 1:
            raise InputError(f"{self}: give a share of the pixels, above 0 and below 1.")

    def known(self, x: Tensor, t: Clock | None) -> Tensor:
        if t is None:
            raise InputError("which pixels are missing is drawn at random under 'pixels'; give a mask.")
        return (t.rand(len(x), 1, *x.shape[2:]) >= self.amount).to(x)


OPERATORS: dict[str, type[Operator]] = {
    o.kind: o for o in (Operator, Noise, Clipped, Blur, Downsample, Faded, Hole, Lower, Pixels)
}
TASKS = {"denoise": "clipped:0.2", "deblur": "blur:1", "superres": "downsample:2", "inpaint": "hole:14",
         "enhance": "faded:0.5"}  # fmt: skip


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
