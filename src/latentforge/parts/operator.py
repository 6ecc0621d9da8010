"""The base of what stands between an image and what is seen of it; see `parts/operators.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from latentforge.clock import Clock
from latentforge.errors import InputError


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
