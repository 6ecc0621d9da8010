"""Restorer: a network from spoilt images to clean ones, trained on images that an operator spoils.

The denoising, deblurring and enhancing of article 001 and the super-resolution of article 002 (see docs/articles.md), with
the encoder and decoder of Ronneberger, Fischer & Brox 2015, arXiv:1505.04597. Beside the error of pixels it can descend
what a critic of clean and restored images says: its features (Larsen et al. 2016, arXiv:1512.09300, section 3), its verdict
(Ledig et al. 2017, arXiv:1609.04802, equation 3), or the style of its features, the 'expected style reconstruction error'
of article 001, taken to be the distance of Gram matrices (Gatys, Ecker & Bethge 2016, doi:10.1109/CVPR.2016.265).

Departures: no code in the middle and so nothing to draw new images from, where article 001 has a VAE: skip connections
carry what a code would lose, and the result estimates the posterior mean. Skips are added where Ronneberger's are
concatenated, blocks are residual, and sides are halved once before the wide layers (`nets/unet.py`). The network adds
to the initial estimate, or, where no pixel is missing, to what the best linear filter makes of it
(`nets/linear_filter.py`), and the sum is clipped. The critic is small, trained along with the network, and takes the
place of a classifier's features. Restorations come from a moving average of the weights (`--ema 0` for none).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from latentforge import nets
from latentforge.clock import Clock
from latentforge.data.batch import Images, at_once
from latentforge.duel import GENERATOR, Duel
from latentforge.errors import InputError
from latentforge.game import Seat, Term, evaluating
from latentforge.nets.linear_filter import LinearFilter
from latentforge.nets.unet import UNet, widths_of
from latentforge.parts.likeness import gram, mean_squared, squared_error
from latentforge.parts.operators import operator_of, spoil
from latentforge.registry import arguments, register

Error = Literal["squared", "absolute", "decibels"]
ERROR = {"squared": "||x - x'||^2", "absolute": "|x - x'|", "decibels": "10 log10 of the mean of (x - x')^2"}
LIKENESS = {"critic": "||D_l(x) - D_l(x')||^2 / 2", "style": "||Gram D_l(x) - Gram D_l(x')||^2"}
SIDE = 9  # of the neighbourhoods that the linear filter sees
IMAGES = 512  # that it is solved on
LOOSE = ("generator_steps", "generator_dropout", "dropout_in_samples")  # rules that are not of the critic
LEAK = 0.01  # slope beyond black and white, without which there would be no way back


def pixel_error(x: Tensor, restored: Tensor, kind: Error) -> Tensor:
    """(B,) error summed over pixels, or in decibels: minus the peak signal-to-noise ratio."""
    d = (x - restored).float().flatten(1)
    if kind == "absolute":
        return d.abs().sum(1)
    square = d.square()
    return square.sum(1) if kind == "squared" else 10 * torch.log10(square.mean(1) + 1e-8)


@register("restorer")
class Restorer(Duel):
    """A network and, unless likeness is that of pixels alone, a critic.

    Args:
        image_shape: (C, H, W) of the images
        task: denoise, deblur, superres, inpaint or enhance; each has its default operator
        operator: how images are degraded: noise:0.5, clipped:0.2, blur:1, downsample:4, hole:14, lower:0.5, pixels:0.75 or
          faded:0.5; default: the task's
        width: channels at half the image's size, doubled below
        fine: channels at the image's own size
        blocks: residual blocks at each size, on the way down and on the way up
        error: of pixels: squared or absolute, summed, or decibels, which is PSNR itself
        similarity: term added to the loss: none (pixel), the distance of the critic's features (critic) or of their Gram
          matrices (style), or the adversarial loss (adversarial)
        pixel: weight of the error of pixels
        weight: weight of the term added
        critic_width: channels of the critic's first convolution, doubled at every halving
    """

    pixel_range = (0.0, 1.0)
    refuses = ("generator_steps",)
    has_prior = False
    has_prior_density = False
    schedule = "cosine"
    batch_size = 8  # every pixel of an image is a target: steps count for more

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        task: Literal["denoise", "deblur", "superres", "inpaint", "enhance"] = "denoise",
        operator: str = "",
        width: int = 32,
        fine: int = 16,
        blocks: int = 1,
        error: Error = "squared",
        similarity: Literal["pixel", "critic", "adversarial", "style"] = "pixel",
        pixel: float = 1.0,
        weight: float = 1.0,
        critic_width: int = 32,
        **rules,
    ):
        super().__init__(**rules)
        if self.generator_steps != 1:
            raise ValueError("it steps once a round, together with its critic; leave out generator_steps")
        if similarity == "pixel":
            known, given = arguments(Restorer), {"weight": weight, "critic_width": critic_width, **rules}
            unheard = sorted(k for k, v in given.items() if k not in LOOSE and v != known[k].default)
            if unheard:
                raise ValueError(f"{unheard[0]} is for a critic, and similarity pixel has none")
        c, h, w = image_shape
        self.image_shape, self.error, self.similarity = image_shape, error, similarity
        self.pixel, self.weight = pixel, weight
        if fine < 1 or critic_width < 1:
            raise ValueError("fine and critic_width are numbers of channels; give 1 or more")
        self.operator = operator_of(task, operator)
        if min(h, w) < max(2, self.operator.factor):
            raise InputError(f"images of {h}x{w} are too small for {self.operator}.")
        self.operator.apply(torch.zeros(1, *image_shape))
        if self.operator.masks:
            self.operator(torch.zeros(1, *image_shape), Clock())  # says what is wrong with the size, if anything
        self.linear = None if self.operator.masks else LinearFilter(c, SIDE)
        self.net: Any = self.with_dropout(UNet(c + (c if self.linear else 1), c, widths_of(h, w, fine, width), blocks))
        if similarity != "pixel":
            self.critic = self.with_rules(nets.initialised(nets.ConvCritic(image_shape, critic_width), "conv", False))

    def meet(self, data):
        """Solve the linear filter on training images."""
        super().meet(data)
        if self.linear is None:
            return
        self.linear.solve(self.pairs(data), torch.Generator().manual_seed(0))

    def pairs(self, data: Images) -> Iterator[tuple[Tensor, Tensor]]:
        """Training images spoilt and naively restored, and as they were, (32, C, H, W) each."""
        for number, index in enumerate(data.spread(IMAGES).split(32)):
            x = data[index].image.to(self.device)
            yield self.operator.naive(spoil(x, self.operator, number), (x.shape[2], x.shape[3])), x

    def players(self):
        return {"restorer": [self.net]} | ({"critic": [self.critic]} if self.similarity != "pixel" else {})

    def seats(self):
        seats = {"restorer": Seat(lr=1.5e-3)}
        return seats | ({"critic": Seat(lr=2e-4, betas=(0.5, 0.999))} if self.similarity != "pixel" else {})

    def play(self, data, t):
        judged = self.similarity != "pixel"
        for _ in range(self.critic_steps - 1 if judged else 0):
            x = next(data).image
            with torch.no_grad():
                restored = self.rebuild(self.spoilt(x, t), x.shape[2:])
            yield {"critic": self.critic_cost((x,), (restored,), t)}
        x = next(data).image  # (B, C, H, W)
        restored = self.rebuild(self.spoilt(x, t), x.shape[2:])
        error = pixel_error(x, restored, self.error).mean()
        t.log("error", error)
        move = {"restorer": self.pixel * error}
        if judged:  # the critic's cost first: it may clamp the weights that the other one goes back through
            move["critic"] = self.critic_cost((x,), (restored.detach(),), t)
            move["restorer"] = move["restorer"] + self.weight * self.unlikeness(x, restored, t)
        yield move

    def spoilt(self, x: Tensor, t) -> Tensor:
        """What the operator leaves of images, in float32 as outside of training."""
        with torch.autocast(x.device.type, enabled=False):
            return self.operator(x, t)

    def unlikeness(self, x: Tensor, restored: Tensor, t) -> Tensor:
        """What the critic finds between images and restored ones, mean over the batch."""
        if self.similarity == "adversarial":
            return self.generator_cost((x,), (restored,), t)
        a, b = self.look((x, restored), None)[1]
        if self.similarity == "critic":
            value = 0.5 * squared_error(a, b).mean()
        else:
            value = squared_error(gram(a), gram(b)).mean()
        t.log(self.similarity, value)
        return value

    def rebuild(self, seen: Tensor, size) -> Tensor:
        """Observations to images (B, C, H, W) of `size` (H, W), all but clipped to [0, 1]: where answers end up beyond black
        or white is nobody's loss, and a network that need not hit them exactly learns faster."""
        start = self.operator.naive(seen, tuple(size))
        if self.linear is None:
            shown = torch.cat([start, seen[:, -1:]], 1)
        else:
            seen, start = start, self.linear(start)
            shown = torch.cat([seen, start], 1)
        images = start + self.net(shown).float()
        clipped = images.clamp(0, 1)
        return clipped + LEAK * (images - clipped)

    @torch.no_grad()
    def restore(self, seen: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        if size is None and self.operator.factor > 1:
            size = (seen.shape[2] * self.operator.factor, seen.shape[3] * self.operator.factor)
        with evaluating(self):
            h, w = size or seen.shape[2:]
            at = at_once((self.image_shape[0], h, w), 256)
            parts = [self.rebuild(y, (h, w)) for y in seen.to(self.device).split(at)]
        return self.operator.keep(torch.cat(parts).clamp(0, 1), seen.to(self.device))

    def evaluate(self, batch):
        x = batch.image
        seen = self.operator(x, Clock.fresh(x.device))
        naive = self.operator.naive(seen, tuple(x.shape[2:])).clamp(0, 1)
        return {
            "spoilt_mse": mean_squared(naive, x),
            "restored_mse": mean_squared(self.restore(seen, tuple(x.shape[2:])), x),
        }

    def objective(self):
        about = f",  x' = restored from {self.operator} of x"
        own = [Term("restorer", ERROR[self.error] + about, self.pixel)] if self.pixel else []
        if self.similarity == "pixel":
            return [own]
        formula = LIKENESS.get(self.similarity) or GENERATOR[self.loss].format(real="x", fake="x'")
        critic = self.critic_terms("x", "x'")
        return [critic] * (self.critic_steps - 1) + [[*own, Term("restorer", formula, self.weight), *critic]]
