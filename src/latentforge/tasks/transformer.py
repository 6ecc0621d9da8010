"""Encoders as scikit-learn transformers: rows or images in, codes out, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from latentforge import registry
from latentforge.game import Game
from latentforge.tasks.encode import embed, no_encoder
from latentforge.tasks.estimator import ImageEstimator, plain_array

FLOATS = (np.float32, np.float64)


class CodeTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ImageEstimator):
    """Codes (N, Z) of images or of rows of numbers: the mean of what a model's encoder gives.

    Parameters
    ----------
    model: a registered name with an encoder, to be trained on X; or what is trained already: a `Game`, or the directory of a
    run, of which `fit` asks only that X fits.
    latent_dim: size of the code of a model to be trained.
    model_options: its other arguments, for example {"beta": 4}.
    image_shape: (H, W) or (C, H, W) of the images that X has as rows; None: rows are a table.
    examples, minutes: the budget of training, one of them (default: 100,000 examples).
    trainer_options: other options of `Trainer`, for example {"lr": 3e-3}.
    device: auto, cpu, cuda or mps; a `Game` stays where it is.
    random_state: seed of everything random.

    Attributes
    ----------
    model_: the trained model. n_features_in_: numbers per image.
    """

    def __init__(
        self, model: str | Path | Game = "vae", *, latent_dim: int = 16, model_options: dict[str, Any] | None = None,
        image_shape: tuple | None = None, examples: int | None = None, minutes: float | None = None,
        trainer_options: dict[str, Any] | None = None, device: str = "auto", random_state: Any = None,
    ):  # fmt: skip
        self.model, self.latent_dim, self.model_options = model, latent_dim, model_options
        self.image_shape, self.examples, self.minutes = image_shape, examples, minutes
        self.trainer_options, self.device, self.random_state = trainer_options, device, random_state

    def fit(self, X: Any, y: Any = None) -> CodeTransformer:
        """X: images or rows, (N, ...); y is ignored. Trains on every one, or checks that they fit what is trained already;
        InputError, a ValueError, where there is no encoder or they do not fit."""
        named = isinstance(self.model, str) and self.model in registry.MODELS
        if named and registry.model_class(self.model).encode is Game.encode:
            raise no_encoder(str(self.model))
        given = plain_array(X)
        images, _ = self._pictures(given, True)
        given = np.asarray(given)
        self._layout, kind = given.shape[1:], given.dtype
        self._unit = 1 if kind.kind in "fb" else self._white or 255  # of images that are no rows
        if named:
            self._start()  # what stands for validation serves the choice of a sampler alone
            self.model_ = self._train(
                str(self.model), images, images.select(images.spread(500)), {"latent_dim": self.latent_dim}
            )
            return self
        self.model_ = self._given()
        embed(self.model_, images.select(torch.arange(1)))  # InputError where it does not fit
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Codes (N, Z), in X's floating-point type."""
        check_is_fitted(self)
        X = plain_array(X)
        codes = embed(self.model_, self._pictures(X, False)[0])[0].numpy()
        kind = np.asarray(X).dtype
        return codes.astype(kind if kind in FLOATS else np.float32)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Samples of the shape, and in the units, that `fit` saw, from codes (N, Z)."""
        check_is_fitted(self)
        codes = np.asarray(X)
        if codes.ndim != 2 or codes.shape[1] != self._n_features_out:
            raise ValueError(f"codes have shape {codes.shape}, not (N, {self._n_features_out})")
        y = None if self.model_.condition is None else self.model_.draw_labels(len(codes), "none")
        images = self.model_.decode(torch.from_numpy(codes.astype(np.float32)), y).cpu().numpy()
        if len(self._layout) == 1:
            low, high = self._scale
            return images.reshape(len(codes), -1) * (high - low) + low
        if len(self._layout) == 3 and self._layout != self._shape:  # channels last
            images = images.transpose(0, 2, 3, 1)
        return images.reshape(len(codes), *self._layout) * self._unit

    @property
    def _n_features_out(self) -> int:
        return self.model_.latent_dim

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.three_d_array = True
        return tags
