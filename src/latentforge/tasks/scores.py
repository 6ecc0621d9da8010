"""How strange an image is, in several ways. Each asks the model for one thing, says what it lacks where it lacks it, and is
larger for stranger images: the logarithm of a squared distance, or -log of a density in nats.

`reconstruction` is the oldest (Hawkins et al., "Outlier detection using replicator neural networks", DaWaK 2002),
`likelihood` and `density` say how improbable an image or its code is. The others ask how far an image lies from the local
plane of the training images (`planes.py`), in pixels, among codes, or in the features of a critic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from latentforge.clock import mix
from latentforge.data import Images
from latentforge.data.batch import at_once
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.nets.condition import before_last
from latentforge.parts.likelihood import importance_bound
from latentforge.parts.likeness import mean_squared
from latentforge.parts.operators import blurred
from latentforge.samplers.gmm import GaussianMixture
from latentforge.tasks.planes import NUMBERS, Planes

CODES = 8  # per image, of the likelihood
SMOOTH = 1 / 28  # standard deviation of the blur, in shorter sides of the image
LEAST = 1e-12  # of squared distances before the logarithm


class Score:
    """Base: `Score(model, normal, seed)` is fitted to normal images, and maps images (B, C, H, W) in [0, 1] on the model's
    device to (B,)."""

    what: ClassVar[str]

    @staticmethod
    def lacks(model: Game) -> str:
        """Why the model cannot give it, as in 'has no encoder'; '' where it can."""
        raise TypeError("a score must say what it needs")

    def __init__(self, model: Game, normal: Images, seed: int):
        self.model = model

    def __call__(self, x: Tensor) -> Tensor:
        raise TypeError("a score must define __call__")


def why_no_code(model: Game) -> str:
    if not model.has_encoder:
        return "has no encoder"
    told = model.condition is not None and not model.condition.drop
    return "cannot encode an image without its label" if told else ""


def seen_by(look: Callable[[Tensor], Tensor], model: Game, normal: Images) -> Tensor:
    """What `look` makes of all normal images, (N, D)."""
    batches = normal.batches(at_once(normal.shape, 256))
    with torch.no_grad():
        return torch.cat([look(b.image.to(model.device)).flatten(1).float() for b in batches])


class Reconstruction(Score):
    what = "squared error of the reconstruction, mean over pixels"
    lacks = staticmethod(why_no_code)

    def __call__(self, x: Tensor) -> Tensor:
        return mean_squared(self.model.reconstruct(x), x).clamp(min=LEAST).log()


class Likelihood(Score):
    what = "-log p(x) in nats, the bound of 8 codes"

    @staticmethod
    def lacks(model: Game) -> str:
        return why_no_code(model) if model.has_likelihood else "has no likelihood"

    def __init__(self, model: Game, normal: Images, seed: int):
        super().__init__(model, normal, seed)
        generator = torch.Generator().manual_seed(mix(seed, 0xDE7EC7))
        self.noise = torch.randn(1, CODES, model.latent_dim, generator=generator).to(model.device)  # the same for all

    def __call__(self, x: Tensor) -> Tensor:
        return importance_bound(self.model, x, self.noise.expand(len(x), -1, -1))


class Density(Score):
    what = "-log p(z) of the code in nats, under a Gaussian mixture fitted on those of normal images"
    lacks = staticmethod(why_no_code)

    def __init__(self, model: Game, normal: Images, seed: int):
        super().__init__(model, normal, seed)
        self.mixture = GaussianMixture.fit(seen_by(lambda x: model.encode(x).mean, model, normal).cpu())

    def __call__(self, x: Tensor) -> Tensor:
        return -self.mixture.log_prob(self.model.encode(x).mean)


class LocalPlane(Score):
    """Base of those that ask for the distance from the local plane of what `look` makes of images."""

    def __init__(self, model: Game, normal: Images, seed: int):
        super().__init__(model, normal, seed)
        size = seen_by(self.look, model, normal.select(normal.spread(1))).shape[1]
        self.planes = Planes(seen_by(self.look, model, normal.select(normal.spread(max(2, NUMBERS // size)))))

    def look(self, x: Tensor) -> Tensor:
        raise TypeError("must define look()")

    def __call__(self, x: Tensor) -> Tensor:
        return self.planes(self.look(x).flatten(1).float()).clamp(min=LEAST).log()


class SmoothPixels(LocalPlane):
    """Planes between images that differ by a shift hold for larger shifts where images are smooth (Simard, LeCun & Denker,
    "Efficient pattern recognition using a new transformation distance", NIPS 1992, section 2.3)."""

    what = "distance from the plane of the nearest normal images, a little blurred; needs nothing of the model"

    @staticmethod
    def lacks(model: Game) -> str:
        return ""

    def look(self, x: Tensor) -> Tensor:
        sigma = SMOOTH * min(x.shape[2:])
        return blurred(x, sigma, round(3 * sigma))


class Codes(LocalPlane):
    what = "the same among codes"
    lacks = staticmethod(why_no_code)

    def look(self, x: Tensor) -> Tensor:
        return self.model.encode(x).mean


class Features(LocalPlane):
    what = "the same among the features of the critic of images or, without one, of the encoder's last layer but one"

    @staticmethod
    def lacks(model: Game) -> str:
        return "" if features_of(model) is not None else "has neither a critic of images nor an encoder with layers"

    def __init__(self, model: Game, normal: Images, seed: int):
        found = features_of(model)
        if found is None:
            raise InputError(f"{model.name} {self.lacks(model)}.")
        self.find = found
        super().__init__(model, normal, seed)

    def look(self, x: Tensor) -> Tensor:
        return self.find(x)


def features_of(model: Game) -> Callable[[Tensor], Tensor] | None:
    """The function from images (B, C, H, W) in [0, 1] to features (B, ...) of the network that looks at them."""
    if hasattr(getattr(model, "critic", None), "features"):
        try:
            with torch.no_grad():
                critic_features(model, torch.zeros(1, *model.image_shape, device=model.device))
            return partial(critic_features, model)
        except (RuntimeError, TypeError):  # a critic of codes
            pass
    known = not why_no_code(model) and isinstance(getattr(model, "encoder", None), nn.Module)
    return partial(encoder_features, model) if known else None


def critic_features(model: Any, x: Tensor) -> Tensor:
    """What the critic of images makes of x before its verdict."""
    told = [] if model.condition is None else [x.new_zeros(len(x), model.condition.size)]  # it is not told which
    return model.critic.features(model.to_network(x), *told)[1]


def encoder_features(model: Any, x: Tensor) -> Tensor:
    """What the encoder's last linear layer is given, when x is encoded."""
    return before_last(model.encoder, lambda: model.encode(x))


SCORES: dict[str, type[Score]] = {
    "reconstruction": Reconstruction, "likelihood": Likelihood, "density": Density, "pixels": SmoothPixels, "codes": Codes,
    "features": Features,
}  # fmt: skip
AUTO = ("pixels", "features", "codes", "density")  # what Detector's "auto" is made of, where the model can give it
