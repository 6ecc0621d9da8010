"""What the metrics of one evaluation share: the model, the images it is held against, its samples and their features,
each computed once."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset
from latentforge.game import Game
from latentforge.metrics.features import FIT, Extractor, choose, extractor, within
from latentforge.metrics.pca import PCA

SAMPLES = 10_000
FEW = 1000  # images below which a distance says little
SETS, DRAWN = 32, 5000  # sets of samples, and samples in all, at most, that are measured where images are few
COMPONENTS = 50  # of the trivial baseline

Row = dict[str, Any]


class Subject:
    """A model, data to measure it on and how: `features` by name or "auto", `repeats` half-samples per interval."""

    def __init__(
        self, model: Game, data: Dataset, split: str = "test", seed: int = 0, features: tuple[str, ...] = ("auto",),
        repeats: int = 16, binarise: str = "dynamic",
    ):  # fmt: skip
        self.model, self.data, self.seed, self.repeats, self.binarise = model, data, seed, repeats, binarise
        self.held: Images = data.split(split)
        names = [choose(data) or "pca50" if name == "auto" else name for name in features]
        self.names = list(dict.fromkeys(names))
        self.made: dict[str, Extractor] = {}
        self.known: dict[tuple[str, str], Tensor] = {}
        self.fitted: dict[int, PCA] = {}

    # -- sets of images (N, C, H, W) in [0, 1] on the CPU -----------------------------------------------------------
    @cached_property
    def n(self) -> int:
        """Images compared: as many samples as real ones."""
        return min(within(SAMPLES, self.data.image_shape), len(self.held), len(self.data.train))

    @cached_property
    def sets(self) -> int:
        """How many sets of n samples are compared with the real images: where these are few, one set is chance."""
        return 1 if self.n >= FEW else max(1, min(SETS, within(DRAWN, self.data.image_shape) // self.n))

    @cached_property
    def train(self) -> Tensor:
        return some(self.data.train, FIT).image

    @cached_property
    def real(self) -> Tensor:
        return some(self.held, self.n).image

    @property  # its features are kept, it would take as much memory as the others
    def floor(self) -> Tensor:
        """As many sets of n training images as there are, or as of samples: what they score no model can be expected to beat.
        Shuffled, since they may be sorted by class."""
        images = some(self.data.train, self.n * min(self.sets, len(self.data.train) // self.n)).image
        if len(images) == self.n:
            return images
        return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))]

    @cached_property
    def fake(self) -> Tensor:
        """All sets of samples, (sets x n, C, H, W)."""
        return self.model.sample(self.n * self.sets, seed=self.seed).cpu()

    @cached_property
    def gauss(self) -> Tensor:
        """As many of what needs no learning of ours: one Gaussian per class in the space of 50 principal components."""
        return gaussian_images(self.data, self.n * self.sets, self.seed)[0]

    @cached_property
    def which(self) -> str:
        classes = self.data.num_classes > 1
        shape = self.data.image_shape
        images = min(len(self.data.train.labelled()), within(FIT, shape))
        return f"Gaussian{' per class' if classes else ''} in PCA-{min(COMPONENTS, images - 1, math.prod(shape))}"

    def pca(self, k: int) -> PCA:
        """The k leading principal components of the training images, fewer where there are not as many."""
        if k not in self.fitted:
            self.fitted[k] = PCA(self.train, k)
        return self.fitted[k]

    # -- features ---------------------------------------------------------------------------------------------------
    def extractor(self, name: str) -> Extractor:
        if name not in self.made:
            self.made[name] = extractor(name, self.data)
        return self.made[name]

    @cached_property
    def extractors(self) -> list[Extractor]:
        return [self.extractor(name) for name in self.names]

    @property
    def classifier(self) -> Extractor | None:
        """The first of the chosen features that also tells classes apart."""
        return next((e for e in self.extractors if e.classify is not None), None)

    def of(self, images: str, extractor: Extractor) -> tuple[Tensor, ...]:
        """Features (n, F) of `real`, and of each set of `floor`, `fake` or `gauss`."""
        key = (images, extractor.name)
        if key not in self.known:
            self.known[key] = extractor(getattr(self, images))
        return self.known[key].split(self.n)

    @property
    def sampler(self) -> str:
        return "prior" if self.model.sampler is None else self.model.sampler.kind


def some(images: Images, n: int):
    """The batch of at most n images spread over a split, on the CPU; fewer where they are large."""
    return images.to("cpu")[images.spread(within(n, images.shape))]


def short(n: int) -> str:
    """10000 -> '10k', as numbers of images stand in names."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)


def gaussian_images(data: Dataset, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """(n, C, H, W) images and their classes (n,), drawn from the Gaussian of each class (of all images where there are no
    classes) in the space of the leading principal components of the training images, classes as frequent as there."""
    batch = some(data.train.labelled(), FIT)
    pca = PCA(batch.image, COMPONENTS)
    scores = pca(batch.image)
    classes = batch.label if data.num_classes > 1 else None
    classes = torch.zeros(len(scores), dtype=torch.long) if classes is None else classes
    del batch  # its images take as much memory as what is drawn
    generator = torch.Generator().manual_seed(seed)
    drawn = classes[torch.randint(len(classes), (n,), generator=generator)]
    out = torch.empty(n, scores.shape[1], dtype=torch.float64)
    for k in drawn.unique():
        own, here = scores[classes == k], drawn == k
        spread = (own - own.mean(0)) / max(1, len(own) - 1) ** 0.5
        rows = torch.nonzero(here)[:, 0]
        for some_rows in rows.split(1024):  # a draw is a mix of the class's own deviations, as many numbers as images
            noise = torch.randn(len(some_rows), len(own), generator=generator, dtype=torch.float64)
            out[some_rows] = own.mean(0) + noise @ spread
    return pca.images(out, data.image_shape), drawn
