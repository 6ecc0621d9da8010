"""What the estimators in scikit-learn's shape share: arrays as images, and a model trained on them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from latentforge import registry
from latentforge.api import create_for, fit, need_effect
from latentforge.data import Dataset, Images
from latentforge.data.arrays import as_numpy, images_from_array
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.saving import load, pick_device

EXAMPLES = 100_000  # images drawn in training, where no budget is given
BYTES, UNIT, WHOLE = "uint8", "floats in [0, 1]", "images"  # what `fit` saw
SMALLEST = 8  # pixels: images with a shorter side get dense networks


class ImageEstimator(BaseEstimator):
    """Base. X is images (N, H, W), (N, H, W, C) or (N, C, H, W) as `open_data` takes them, or rows of numbers (N, D).
    Rows are images of `image_shape`, (H, W) or (C, H, W), where that is given, and tables of D columns where it is not.
    Rows of uint8 are divided by 255, and floats in [0, 1] are taken as they are; other numbers are brought there by the
    least and the greatest that `fit` saw, of each column in a table, of all in images."""

    model: Any
    model_options: dict[str, Any] | None
    image_shape: tuple[int, ...] | None
    examples: int | None
    minutes: float | None
    trainer_options: dict[str, Any] | None
    device: str
    random_state: Any
    _last: bool  # channels of the images that fit saw
    _white: int | None  # the greatest number of 16 bits, where fit saw images of 16 bits

    def _pictures(self, X: Any, reset: bool, y: Any = None) -> tuple[Images, Any]:
        """X as images, and y checked beside it; `reset` learns their shape and scale."""
        X = plain_array(X)
        if X.ndim > 2:
            return self._whole(np.asarray(X), reset), y
        if y is None:
            X = validate_data(self, X, reset=reset, dtype="numeric", ensure_min_samples=2 if reset else 1)
        else:
            X, y = validate_data(self, X, y, reset=reset, dtype="numeric", ensure_min_samples=2)
        own, rows = range_of(X), np.asarray(X, np.float64)  # whose own type may be too small for the arithmetic
        scale: tuple[float, float] | None = None  # that of fit, unless rows follow images
        if reset:
            self._shape, self._scale, self._range = self._row_shape(X.shape[1]), self._row_scale(X), own
            self._white = None
        elif self._range == WHOLE:  # fit saw images
            if own is None:
                raise InputError(f"X has rows from {X.min()} to {X.max()}, and fit saw images; give {BYTES} or {UNIT}.")
            scale = (0.0, 255.0) if own == BYTES else (0.0, 1.0)
        elif {self._range, own} == {BYTES, UNIT} and X.max() > 0:
            raise InputError(f"X has {own}, and fit saw {self._range}; give both in one range.")
        elif self._range == UNIT and self.image_shape is not None and (rows.max() > 2 or rows.min() < -1):
            raise InputError(f"X has numbers from {X.min()} to {X.max()}, and fit saw {UNIT}; give both in one range.")
        low, high = scale or self._scale
        values = torch.from_numpy(((rows - low) / (high - low)).astype(np.float32))
        if self._range == WHOLE and self._last:
            c, h, w = self._shape
            return Images(values.view(len(X), h, w, c).permute(0, 3, 1, 2)), y
        return Images(values.view(len(X), *self._shape)), y

    def _whole(self, X: np.ndarray, reset: bool) -> Images:
        """Images that come as such. Whether white is 255 or 65,535 in 16 bits is for the images that `fit` saw to say."""
        wide = X.dtype == np.uint16 and X.size > 0
        if reset:
            self._white = (255 if X.max() <= 255 else 65535) if wide else None
        elif self._range not in (WHOLE, BYTES, UNIT):
            raise InputError("X has images, and fit saw rows on a scale of their own; give rows.")
        elif wide and self._white is not None:
            if X.max() > self._white:
                raise InputError(f"X has numbers up to {X.max()}, and fit saw none above 255; give both in one range.")
            X = X.astype(np.float32) / self._white
        given, notes = images_from_array(X, "X")
        for note in notes:
            warnings.warn(note, stacklevel=4)
        pixels = torch.from_numpy(given)
        shape = Images(pixels).shape
        if reset:
            self._shape, self._scale, self._range = shape, (0.0, 1.0), WHOLE
            self._last = X.ndim == 4 and X.shape[3] <= 4  # channels, as images_from_array reads them
            self.n_features_in_ = math.prod(shape)
            self.__dict__.pop("feature_names_in_", None)  # of an earlier fit on a table
        elif shape != self._shape:
            raise InputError(f"X has images {shape} (C, H, W), and those of fit were {self._shape}.")
        return Images(pixels)

    def _given(self) -> Game:
        """The model that came trained, on the device asked for where it is loaded. InputError where X, or an option, does not
        belong to such a one."""
        if self.model_options:
            raise InputError("model_options are for a model given by name; this one is trained already.")
        low, high = self._scale
        if np.any(low != 0) or not np.all(np.isin(high, (1, 255))):
            raise InputError("X has values below 0 or above 1; a trained model needs uint8, or values in [0, 1].")
        return self.model if isinstance(self.model, Game) else load(Path(self.model)).to(pick_device(self.device))

    def _row_shape(self, columns: int) -> tuple[int, int, int]:
        if self.image_shape is None:
            return 1, 1, columns
        shape = tuple(int(s) for s in self.image_shape)
        shape = (1, *shape) if len(shape) == 2 else shape
        if len(shape) != 3 or math.prod(shape) != columns:
            raise InputError(f"image_shape={self.image_shape} does not fit rows of {columns} numbers.")
        if not 1 <= shape[0] <= 4:
            raise InputError(f"image_shape={self.image_shape}: give (C, H, W), channels first, with 1 to 4 of them.")
        return shape[0], shape[1], shape[2]

    def _row_scale(self, X: np.ndarray) -> tuple[Any, Any]:
        if known := range_of(X):
            return (0.0, 255.0) if known == BYTES else (0.0, 1.0)
        X = np.asarray(X, np.float64)
        low, high = (X.min(), X.max()) if self.image_shape is not None else (X.min(0), X.max(0))
        return low, np.where(high > low, high, low + np.maximum(1, np.abs(low)))  # where all are alike, 0 for all

    def _train(
        self, name: str, images: Images, held: Images, told: dict[str, Any] | None = None, budget: Any = None,
        check: Callable[[Game], None] | None = None,
    ) -> Game:  # fmt: skip
        """The model `name` with the arguments `told`, trained on `images`; the budget is the estimator's or `budget`. `check`
        raises InputError where the model, not trained yet, will not do."""
        if self.minutes is not None and self.examples is not None:
            raise InputError("give one budget, minutes or examples.")
        own = {"minutes": self.minutes} if self.minutes is not None else {"examples": self.examples or EXAMPLES}
        data = Dataset("X", "arrays in memory", images, held, held)
        known = registry.arguments(registry.model_class(name))
        options: dict[str, Any] = {"latent_dim": max(1, min(32, math.prod(images.shape) // 2))}
        if min(images.shape[1:]) < SMALLEST and "net" in known:
            options["net"] = "mlp"
        if images.shape[:2] == (1, 1) and "likelihood" in known:  # the numbers of a table are no shades of grey
            options["likelihood"] = "learned-gaussian"
        options |= (told or {}) | (self.model_options or {})
        model = create_for(name, data, self._seed, options)
        need_effect(model, options)
        if check is not None:
            check(model)
        settings: dict[str, Any] = (
            {"seed": self._seed, "device": self.device} | (budget or own) | (self.trainer_options or {})
        )
        return fit(model, data, quiet=True, **settings)

    def _start(self) -> None:
        self._seed = int(check_random_state(self.random_state).randint(2**31))


def plain_array(X: Any) -> Any:
    """X with `ndim`: a tensor or a list as an array, an array or a table as it is."""
    return as_numpy(X, "X") if hasattr(X, "detach") else X if hasattr(X, "ndim") else np.asarray(X)


def range_of(X: np.ndarray) -> str | None:
    """In which of the ranges that images come in rows are; None for any other."""
    if X.dtype == np.uint8:
        return BYTES
    return UNIT if X.min() >= 0 and X.max() <= 1 else None
