"""A classifier from few labels, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from latentforge import registry
from latentforge.data.batch import Images
from latentforge.errors import InputError
from latentforge.semi import SemiSupervised
from latentforge.tasks.estimator import ImageEstimator

UNLABELLED = -1


class SemiSupervisedClassifier(ClassifierMixin, ImageEstimator):
    """Classes from a few labelled images and many without a label.

    Parameters
    ----------
    model: a registered name of the families that learn from few labels: ssl-vae, ssl-gan or ssl-vae-gan.
    model_options: its arguments, for example {"smooth": 0.5}.
    image_shape: (H, W) or (C, H, W) of the images that X has as rows; None: rows are a table.
    examples, minutes: the budget of training, one of them (default: 100,000 examples).
    trainer_options: other options of `Trainer`, for example {"lr": 3e-3}.
    device: auto, cpu, cuda or mps.
    random_state: seed of everything random.

    Attributes
    ----------
    classes_: (K,) the labels, without -1. model_: the trained model. transduction_: the label of each image of fit, its own
    where it had one. n_features_in_: numbers per image.
    """

    def __init__(
        self, model: str = "ssl-gan", *, model_options: dict[str, Any] | None = None, image_shape: tuple | None = None,
        examples: int | None = None, minutes: float | None = None, trainer_options: dict[str, Any] | None = None,
        device: str = "auto", random_state: Any = None,
    ):  # fmt: skip
        self.model, self.model_options, self.image_shape = model, model_options, image_shape
        self.examples, self.minutes, self.trainer_options = examples, minutes, trainer_options
        self.device, self.random_state = device, random_state

    def fit(self, X: Any, y: Any) -> SemiSupervisedClassifier:
        """X: images or rows, (N, ...); y: (N,) classes, -1 (as text too) where none is known. InputError, a ValueError,
        for a model of another kind; ValueError with fewer than two classes."""
        if not issubclass(registry.model_class(self.model), SemiSupervised):
            able = ", ".join(k for k, v in registry.MODELS.items() if v.cls.startswith("SSL"))
            raise InputError(f"{self.model} does not learn from few labels; take one of {able}.")
        images, y = self._pictures(X, True, y)
        y = column_or_1d(y)
        if len(y) != len(images):
            raise InputError(f"{len(y)} labels for {len(images)} images; give one for each, -1 where it is not known.")
        unknown = y.astype(str) == str(UNLABELLED) if y.dtype.kind in "OUS" else y == UNLABELLED
        check_classification_targets(y[~unknown])
        self.classes_, codes = np.unique(y[~unknown], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has {len(self.classes_)} class(es) beside the unlabelled -1; at least 2 are needed")
        labels = torch.full((len(y),), UNLABELLED)
        labels[torch.from_numpy(~unknown)] = torch.from_numpy(codes).long()
        self._start()
        train = Images(images.pixels, labels)
        model: Any = self._train(self.model, train, train.labelled())
        self.model_ = model
        found = model.classify(train).argmax(1).cpu().numpy()
        self.transduction_ = np.where(unknown, self.classes_[found], y)
        return self

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log p(y | x), (N, K)."""
        check_is_fitted(self)
        images, _ = self._pictures(X, False)
        model: Any = self.model_
        return model.classify(images).cpu().double().log_softmax(1).numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """p(y | x), (N, K)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class (N,)."""
        log_p = self.predict_log_proba(X)
        return self.classes_[log_p.argmax(1)]
