"""Trained models in training code of your own: a critic as a perceptual loss.

critic = lf.losses.CriticFeatures("runs/dcgan")
loss = F.mse_loss(out, x) + 0.1 * critic(out, x).mean()
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.parts.likeness import gram, squared_error
from latentforge.saving import load

REFERENCE = 256  # images that a layer's scale is measured on
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class CriticFeatures(nn.Module):
    """Distance of images in the features of a trained critic (Larsen et al. 2016, arXiv:1512.09300, equation 6).

    model: a model with a critic of images, or its run or exported directory. What is used of it is copied and fixed: neither
        weights nor batch norm statistics move, whatever happens to the model or to the module that holds this one.
    layers: which of the critic's layers, counted as in a list; all of them by default, (-1,) is Larsen's choice. A layer's
        features are the raw output of a convolution (of a linear layer, in dense critics), before norm and activation; layers
        after the last convolution, which judge the image as a whole or compare it with others of the batch, are left out.
    distance: `features`, squared error of the features; `style`, squared error of their Gram matrices, which forget where in
        the image things are (Gatys et al. 2016, equation 4).
    reference: images (N, C, H, W) in [0, 1] by which the layers are scaled; 256 samples of the model by default.
    pixel_range: the range of the images given to the loss.

    A layer's distance is divided by what it is between two unrelated images on average, twice the variance over `reference`, so
    layers weigh the same and 1 means "as far apart as any two images". InputError for models without a critic of images.
    """

    scale: Tensor

    def __init__(
        self,
        model: Game | str | Path,
        layers: Sequence[int] | None = None,
        distance: Literal["features", "style"] = "features",
        reference: Tensor | None = None,
        pixel_range: tuple[float, float] = (0.0, 1.0),
    ):
        super().__init__()
        model = load(model) if isinstance(model, str | Path) else model
        if distance not in ("features", "style"):
            raise InputError(f"distance '{distance}' is not known; choose features or style.")
        if not pixel_range[0] < pixel_range[1]:
            raise InputError(f"pixel_range {pixel_range} is no range; give (lowest, highest).")
        body, plane = model.critic_eyes()
        found = [m for m in body.modules() if isinstance(m, LAYERS)]
        convolutions = [i for i, m in enumerate(found) if not isinstance(m, nn.Linear)]
        if convolutions:
            found = found[: convolutions[-1] + 1]
        if not found:
            raise InputError(
                f"the critic of {model.name} has no layer that sees images alone; train one of convolutions (net=conv)."
            )
        wanted = range(len(found)) if layers is None else layers
        for k in wanted:
            if not -len(found) <= k < len(found):
                raise InputError(
                    f"there is no layer {k}; the critic of {model.name} has {len(found)}, from 0 or from -1 back."
                )
        self.layers = sorted({k % len(found) for k in wanted})
        if not self.layers:
            raise InputError("layers is empty; give at least one.")
        self.body, self.plane = fixed(body), None if plane is None else fixed(plane)
        self.condition = None if plane is None else fixed(model.condition)  # type: ignore[arg-type]
        self.name, self.image_shape, self.style = model.name, tuple(model.image_shape), distance == "style"
        (low, high), (least, most) = pixel_range, model.pixel_range
        self.factor = (most - least) / (high - low)  # user's range -> the critic's
        self.offset = least - low * self.factor
        self.register_buffer("scale", self.scales(model, reference))

    @torch.no_grad()
    def scales(self, model: Game, reference: Tensor | None) -> Tensor:
        """(L,) mean distance of two unrelated images in each layer."""
        if reference is None and not model.can_sample:
            raise InputError(f"{model.name} cannot draw images to scale the layers by; give some as reference.")
        n = REFERENCE if reference is None else len(reference)
        if n < 2:
            raise InputError("the layers are scaled by the differences of images; give at least two as reference.")
        y = model.draw_labels(n, seed=0)
        images = model.sample(n, label=y, seed=0) if reference is None else reference.to(model.device)
        low, high = model.pixel_range
        features = self.look(images * (high - low) + low, None if y is None else y.to(model.device))
        scale = torch.stack([2 * f.cpu().double().var(0).sum() for f in features]).float().to(model.device)
        if not (scale > 0).all():
            dull = self.layers[int((scale <= 0).nonzero()[0])]
            raise InputError(
                f"all reference images look the same to layer {dull}; give others as reference, or leave it out."
            )
        return scale

    def look(self, x: Tensor, y: Tensor | None) -> list[Tensor]:
        """Features of the chosen layers (Gram matrices for `style`) of images in the critic's range."""
        if self.plane is not None and self.condition is not None:
            if y is None:
                self.condition.check_drop(True)
            x = self.plane(x, self.condition(y, len(x)))
        seen: list[Tensor] = []
        every = [m for m in self.body.modules() if isinstance(m, LAYERS)]
        with ExitStack() as hooks, torch.autocast(x.device.type, enabled=False):
            for k in self.layers:
                hooks.enter_context(every[k].register_forward_hook(lambda module, given, out: seen.append(out)))
            self.body(x)
        if not self.style:
            return seen
        if any(f.dim() != 4 for f in seen):
            raise InputError(
                f"style needs layers of convolutions; the critic of {self.name} has dense ones among those chosen."
            )
        return [gram(f) for f in seen]

    def features(self, image: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """What the chosen layers see in images (B, C, H, W) in `pixel_range`: (B, F, h, w) or (B, F) of each, (B, F, F) for
        `style`. `y` as in `forward`."""
        if tuple(image.shape[1:]) != self.image_shape:
            raise InputError(
                f"images {tuple(image.shape[1:])} do not fit the critic of {self.name}, whose are {self.image_shape} (C, H, W)."
            )
        return self.look(image.to(self.scale.dtype) * self.factor + self.offset, y)

    def forward(self, image: Tensor, target: Tensor, y: Tensor | None = None) -> Tensor:
        """(B,) distances of images (B, C, H, W) from targets of the same shape, mean over the layers; gradients reach `image`
        alone. `y`: the classes (B,) or descriptors (B, D) of the targets, for critics that are shown them beside the image
        (`how=concat`); others do not look at it."""
        if image.shape != target.shape:
            raise InputError(f"images {tuple(image.shape)} and targets {tuple(target.shape)} differ in shape.")
        with torch.no_grad():
            wanted = self.features(target, y)
        pairs = zip(self.features(image, y), wanted, self.scale, strict=True)
        return torch.stack([squared_error(a, b) / s for a, b, s in pairs]).mean(0)

    def train(self, mode: bool = True) -> CriticFeatures:
        """Stays in eval mode: dropout is off, and batch norm uses what it learned, whatever the batch."""
        return super().train(False)


def fixed(module: nn.Module) -> Any:
    """A copy whose weights take no gradient and whose layers leave their inputs, features among them, alone."""
    out = copy.deepcopy(module).requires_grad_(False).eval()
    for m in out.modules():
        if hasattr(m, "inplace"):
            m.inplace = False  # type: ignore[assignment]
    return out
