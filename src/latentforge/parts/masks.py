"""Operators that hide pixels. Observations have one more channel, 1 where a pixel is known and 0 where it is not."""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.clock import Clock
from latentforge.errors import InputError
from latentforge.parts.operator import Operator


class Mask(Operator):
    """Some pixels are not seen."""

    masks = True

    def known(self, x: Tensor, t: Clock | None) -> Tensor:
        """(N, 1, H, W), 1 where a pixel is seen and 0 where it is not."""
        raise TypeError(f"{type(self).__name__} must define known()")

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
        h = x.shape[2]
        gone = round(self.amount * h)
        if not 0 < gone < h:
            raise InputError(
                f"{self} hides {gone} of the {h} rows of images; give a share that hides some and leaves some."
            )
        out = torch.ones(len(x), 1, *x.shape[2:], device=x.device)
        out[:, :, h - gone :] = 0
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
