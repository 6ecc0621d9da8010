"""Encoders as scikit-learn transformers: rows or images in, codes out, and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from latentforge import registry
from latentforge.api import create_for, fit
from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.saving import load
from latentforge.tasks.encode import embed, need_encoder

TYPES = [np.float64, np.float32, np.uint8]  # others become float64
SMALL = 8  # sides below this are too small for the families' convolutions


class CodeTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Codes (N, Z) of images or of rows of numbers: the mean of what a model's encoder gives.

    `model` is the name of a family, trained by `fit` within a budget, or a trained one: a run directory, an exported
    model or a `Game`, of which `fit` asks only that X fits.

    X is (N, H, W), (N, H, W, C) or (N, D). With `image_shape`, rows are images, flattened in that order; without, they are
    D numbers, and dense networks take them. Models see values in [0, 1]: uint8 is divided by 255. Other values are images
    in [0, 1] for a trained model; a model trained here has the range of its training data mapped to [0, 1], that of each
    column where rows are no images, and values beyond it are cut off.

    Args:
        model: name of a family with an encoder, run directory, or trained model
        image_shape: (H, W) or (H, W, C) of rows (N, D) that are images
        latent_dim: size of the code of a model trained here
        epochs: budget of the training in passes over X, unless `train_options` name another
        model_options: further arguments of the family, as of `lf.create`
        train_options: further options of the training, as of `lf.fit`
        random_state: seed of weights, order and noise

    After `fit`: `model_`, `layout_` (shape of one sample), `n_features_in_`, and `low_`, `span_` of the training data.
    """

    def __init__(
        self, model: Any = "vae", *, image_shape: tuple[int, ...] | None = None, latent_dim: int = 16, epochs: float = 20,
        model_options: dict[str, Any] | None = None, train_options: dict[str, Any] | None = None, random_state: Any = 0,
    ):  # fmt: skip
        self.model, self.image_shape, self.latent_dim, self.epochs = model, image_shape, latent_dim, epochs
        self.model_options, self.train_options, self.random_state = model_options, train_options, random_state

    def fit(self, X: Any, y: Any = None) -> CodeTransformer:
        """Train on X, or check that the trained model fits it. y is not used."""
        X = validate_data(self, X, dtype=TYPES, allow_nd=True, ensure_min_samples=2)
        named = isinstance(self.model, str) and self.model in registry.MODELS
        self.layout_ = X.shape[1:]
        self.own_scale_ = named and X.dtype != np.uint8
        self._learn_range(X)
        if named:
            self.model_ = self._trained(Images(self._to_model(X)))
        else:
            self.model_ = self.model if isinstance(self.model, Game) else load(Path(self.model))
            need_encoder(self.model_)
            embed(self.model_, Images(self._to_model(X[:1])))  # InputError where it does not fit
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Codes (N, Z), in X's floating-point type."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=TYPES, allow_nd=True, reset=False)
        if X.shape[1:] != self.layout_:
            raise ValueError(f"X has samples of shape {X.shape[1:]}, fit saw {self.layout_}")
        codes = embed(self.model_, Images(self._to_model(X)))[0].numpy()
        return codes.astype(X.dtype if X.dtype in (np.float32, np.float64) else np.float32)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Samples of the shape, and in the units, that `fit` saw, from codes (N, Z)."""
        check_is_fitted(self)
        codes = np.asarray(X)
        if codes.ndim != 2 or codes.shape[1] != self._n_features_out:
            raise ValueError(f"codes have shape {codes.shape}, not (N, {self._n_features_out})")
        y = None if self.model_.condition is None else self.model_.draw_labels(len(codes), "none")
        images = self.model_.decode(torch.from_numpy(codes.astype(np.float32)), y).cpu().numpy()
        flat = images.transpose(0, 2, 3, 1).reshape(len(codes), *self.layout_)
        return flat * self.span_ + self.low_

    @property
    def _n_features_out(self) -> int:
        return self.model_.latent_dim

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.three_d_array = True
        return tags

    # -- between X and the model ---------------------------------------------------------------------------------------
    def _shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one sample; InputError where `image_shape` or X has none."""
        shape = tuple(self.layout_)
        if len(shape) == 1 and self.image_shape is not None:
            if math.prod(self.image_shape) != shape[0]:
                raise InputError(f"image_shape {self.image_shape} has {math.prod(self.image_shape)} numbers, a row of X "
                                 f"{shape[0]}.")  # fmt: skip
            shape = tuple(self.image_shape)
        if len(shape) == 1:
            return 1, 1, shape[0]
        if len(shape) not in (2, 3):
            raise InputError(f"samples of shape {shape}: give (N, D), (N, H, W) or (N, H, W, C).")
        h, w, c = (*shape, 1)[:3]
        return c, h, w

    def _learn_range(self, X: np.ndarray) -> None:
        self.low_: Any = 0.0
        self.span_: Any = 255.0 if X.dtype == np.uint8 else 1.0
        if self.own_scale_:
            per_column = X.ndim == 2 and self.image_shape is None
            low, high = X.min(0 if per_column else None), X.max(0 if per_column else None)
            self.low_, self.span_ = low, np.where(high > low, high - low, 1)

    def _to_model(self, X: np.ndarray) -> torch.Tensor:
        """(N, C, H, W) float32 in [0, 1]."""
        c, h, w = self._shape()
        unit = (X - self.low_) / self.span_
        if not self.own_scale_ and len(unit) and not (unit.min() >= 0 and unit.max() <= 1):
            raise InputError(f"X has values from {X.min():g} to {X.max():g}; a trained model needs uint8, or values in "
                             "[0, 1].")  # fmt: skip
        images = unit.clip(0, 1).astype(np.float32).reshape(len(X), h, w, c).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(images))

    def _trained(self, images: Images) -> Game:
        known = registry.arguments(registry.model_class(self.model))
        options: dict[str, Any] = {"latent_dim": self.latent_dim, **(self.model_options or {})}
        if "net" in known and min(images.shape[1:]) < SMALL:
            options = {"net": "mlp", **options}
        train = dict(self.train_options or {})
        if not {"epochs", "examples", "minutes"} & set(train):
            train["epochs"] = self.epochs
        seed = int(check_random_state(self.random_state).randint(2**31))
        # every row trains; what stands for validation serves the choice of a sampler alone, and codes need none
        few = Images(images.pixels[images.spread(500)])
        data = Dataset("array", "an array in memory", images, few, few)
        model = create_for(self.model, data, seed, options)
        need_encoder(model)
        sampler = {} if model.begins else {"sampler": "prior"}  # later stages may draw codes from what was fitted
        return fit(model, data, quiet=True, **{"seed": seed, **sampler, **train})
