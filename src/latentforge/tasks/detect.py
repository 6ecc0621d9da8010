"""Images unlike those a model was trained on. Score, threshold and label are kept apart: the score says how strange an
image is, the threshold is a choice made on scores alone, and the label is the comparison of the two.

Each score (`scores.py`) is brought to the scale of normal images, held-out ones where there are 10 or more, mean 0 and
standard deviation 1, and the detector's is the mean of the asinh of those chosen, which is linear for the usual and
logarithmic for the strange.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import torch
from torch import Tensor

from latentforge.data.batch import at_once, hold_out
from latentforge.data.modes import is_points
from latentforge.errors import InputError, suggest
from latentforge.game import Game, evaluating
from latentforge.tasks.encode import Pictures, images_of, need_shape
from latentforge.tasks.scores import AUTO, SCORES, Score

QUANTILE = 0.95
REFERENCE = 20_000  # normal images looked at
SPLIT = 15  # normal images; of fewer a tenth is one, by which no threshold is set
ENOUGH = 10  # held-out images to scale by; the deviation of so many is known to about a quarter
HOTTEST = 0.999  # quantile of the squared errors of normal images that is the hottest colour


@dataclass(frozen=True)
class Detection:
    """`score` (N,), larger is stranger; `threshold`; `parts`, the standardised scores (N,) it is made of."""

    score: Tensor
    threshold: float
    parts: dict[str, Tensor]

    @property
    def anomaly(self) -> Tensor:
        """True (N,) where the score is above the threshold."""
        return self.score > self.threshold


class Detector:
    """Scores fitted to normal images.

    model: trained on such images. normal: the images it was trained on, or others like them. held: normal images that it
    was not trained on, for the threshold, and to scale by where there are 10 or more; without them, a tenth of
    `normal`, and where there are fewer than 2, the others. Images are taken as `embed` takes them. score: names of
    pixels, features, codes, density, reconstruction and likelihood, or "auto": of the first four all that the model can
    give. seed: of the noise in a likelihood.
    InputError where a score does not exist, the model cannot give it, images do not fit, or there are fewer than 3.
    """

    def __init__(
        self, model: Game, normal: Pictures, held: Pictures | None = None, score: str | Sequence[str] = "auto",
        seed: int = 0,
    ):  # fmt: skip
        self.model, self.seed = model, seed
        with evaluating(model):
            self.names = chosen(model, score)
        normal, held = images_of(normal), None if held is None else images_of(held)
        for images in (normal, held or normal):
            need_shape(model, images.shape, "normal images")
        if len(normal) < 3:
            raise InputError(f"{len(normal)} normal images are too few to know what is normal; give at least 3.")
        if held is None and len(normal) >= SPLIT:
            normal, held = hold_out(normal, 0)
        seen = normal.select(normal.spread(REFERENCE))
        held = seen if held is None or len(held) < 2 else held.select(held.spread(REFERENCE))
        self.apart = held is not seen  # whether the threshold is of images that the scores are not fitted to
        with evaluating(model):
            self.fitted: dict[str, Score] = {name: SCORES[name](model, seen, seed) for name in self.names}
        raw = self.raw(held)
        usual = raw if len(held) >= ENOUGH else self.raw(seen)
        self.scale = {k: (float(v.mean()), max(float(v.std()), 1e-6)) for k, v in usual.items()}
        self.normal_scores = self.combine(self.standardised(raw))

    @torch.no_grad()
    def raw(self, images: Pictures) -> dict[str, Tensor]:
        """Each score (N,) float64 as it is."""
        images = images_of(images)
        need_shape(self.model, images.shape, "images")
        found: dict[str, list[Tensor]] = {name: [] for name in self.names}
        with evaluating(self.model):
            for batch in images.batches(at_once(images.shape, 256)):
                x = batch.image.to(self.model.device)
                for name, score in self.fitted.items():
                    found[name].append(score(x).cpu().double())
        return {k: torch.cat(v) if v else torch.zeros(0, dtype=torch.float64) for k, v in found.items()}

    def parts(self, images: Pictures) -> dict[str, Tensor]:
        """Each score (N,) in standard deviations of normal images, held-out ones where there are 10 or more."""
        return self.standardised(self.raw(images))

    def standardised(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: (v - self.scale[k][0]) / self.scale[k][1] for k, v in raw.items()}

    @staticmethod
    def combine(parts: dict[str, Tensor]) -> Tensor:
        """One score (N,) of standardised ones: the mean of their asinh, so that none outvotes the rest by running away."""
        return torch.stack([part.asinh() for part in parts.values()]).mean(0)

    def score(self, images: Pictures) -> Tensor:
        """(N,), larger is stranger."""
        return self.combine(self.parts(images))

    def threshold(self, quantile: float = QUANTILE) -> float:
        """What a normal image exceeds with probability 1 - quantile or less: the ceil((n + 1) quantile)-th score of n
        held-out ones, or the greatest, which 1 in n + 1 exceeds, where n is too small."""
        n = len(self.normal_scores)
        k = math.ceil((n + 1) * check_share("quantile", quantile) - 1e-9)
        return float(self.normal_scores.sort().values[min(max(k, 1), n) - 1])

    def doubt(self, quantile: float = QUANTILE) -> str:
        """Why more normal images than 1 - quantile exceed the threshold; "" where they do not."""
        n, needed = len(self.normal_scores), math.ceil(quantile / (1 - quantile) - 1e-9)
        if not self.apart:
            return (
                f"the threshold comes from the {n} normal images that the scores were fitted to: more of others may "
                "be called anomalous than the quantile says"
            )
        found = f"the threshold comes from {n} normal images, and the quantile {quantile:g} needs {needed}"
        return "" if n >= needed else f"{found}: about 1 in {n + 1} normal images will be called anomalous"

    def detect(
        self, images: Pictures, quantile: float = QUANTILE, contamination: float | None = None
    ) -> Detection:  # fmt: skip
        """Judge images. The threshold is what the share `quantile` of normal images does not exceed; with
        `contamination`, what all but that share of the images judged do not."""
        parts = self.parts(images)
        score, threshold = self.combine(parts), self.threshold(quantile)
        if contamination is not None and len(score):
            threshold = float(score.quantile(1 - check_share("contamination", contamination)))
        return Detection(score, threshold, parts)

    @torch.no_grad()
    def heat(self, images: Tensor) -> Tensor:
        """Where an image (N, C, H, W) is not what the model would make of it: squared errors (N, 1, H, W), mean over
        channels. InputError where the model cannot encode an image of which it is told nothing."""
        need_reconstruction(self.model)
        x = images.to(self.model.device)
        return (self.model.reconstruct(x) - x).square().mean(1, keepdim=True).cpu()


def detect(
    model: Game, images: Pictures, normal: Pictures, held: Pictures | None = None, score: str | Sequence[str] = "auto", *,
    quantile: float = QUANTILE, contamination: float | None = None, seed: int = 0,
) -> Detection:  # fmt: skip
    """Anomaly score, threshold and label of images, given a model and the `normal` images it was trained on. `Detector` keeps
    what it learns of these for further images; it says what held, score and seed are, and its method `detect` what quantile
    and contamination. InputError for what these refuse."""
    return Detector(model, normal, held, score, seed).detect(images, quantile, contamination)


def chosen(model: Game, score: str | Sequence[str]) -> list[str]:
    """The scores asked for that the model can give. InputError where one does not exist, or cannot be given by name."""
    asked = score.split(",") if isinstance(score, str) else list(score)
    if asked == ["auto"]:
        able = [name for name in AUTO if not SCORES[name].lacks(model)]
        if not able:
            raise InputError(f"{model.name} {SCORES[AUTO[0]].lacks(model)}; it has nothing that detect could ask.")
        return able
    for name in asked:
        if name not in SCORES:
            raise InputError(f"there is no score '{name}'.{suggest(name, ['auto', *SCORES])}")
        if why := SCORES[name].lacks(model):
            raise InputError(f"{model.name} {why}, so it has no score '{name}'; leave it out, or use --score auto.")
    return list(dict.fromkeys(asked))


def need_reconstruction(model: Game) -> None:
    """InputError where the model cannot rebuild an image of which it is told nothing."""
    if why := SCORES["reconstruction"].lacks(model):
        raise InputError(
            f"{model.name} {why}, so that there is nothing to compare an image with; leave out --heatmaps."
        )


def check_share(name: str, value: float) -> float:
    if not isinstance(value, numbers.Real):
        raise InputError(f"{name}={value!r} is not a number; give a share between 0 and 1, for example .05.")
    if not 0 < value < 1:
        raise InputError(f"{name} {value:g} is not a share between 0 and 1; give for example .05.")
    return value


def heat_sheet(detector: Detector, images: Tensor, normal: Tensor) -> Tensor:
    """Image, reconstruction and heat map of each, (3 N, 3, H, W) in [0, 1] in that order. The hottest colour is the same
    for all: the .999 quantile of the squared errors of `normal` images (M, C, H, W)."""
    if is_points(tuple(images.shape[1:])):
        raise InputError("points in the plane have no heat maps; leave out --heatmaps.")
    rebuilt = detector.model.reconstruct(images.to(detector.model.device)).cpu()
    hot = detector.heat(normal).flatten().numpy()
    hottest = max(float(torch.from_numpy(hot[:: max(1, len(hot) // 2**20)]).quantile(HOTTEST)), 1e-6)
    scaled = (detector.heat(images)[:, 0] / hottest).clamp(0, 1).numpy()
    colours = torch.from_numpy(matplotlib.colormaps["inferno"](scaled)[..., :3]).float().permute(0, 3, 1, 2)
    return torch.stack([in_colour(images.cpu()), in_colour(rebuilt), colours], 1).flatten(0, 1)


def in_colour(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 3, H, W): grey three times, or the first three channels; transparency is left out."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
