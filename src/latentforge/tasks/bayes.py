"""Bayes' rule as a scikit-learn classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor

from latentforge import registry
from latentforge.data import Images
from latentforge.data.batch import hold_out
from latentforge.errors import InputError
from latentforge.tasks import classify
from latentforge.tasks.detect import check_share
from latentforge.tasks.estimator import EXAMPLES, ImageEstimator


class BayesClassifier(ClassifierMixin, ImageEstimator):
    """Bayes' rule on a density of each class: p(y | x) = p(x | y) p(y) / p(x). See `latentforge.tasks.classify`.

    Parameters
    ----------
    model: a registered name with a likelihood. One that is told classes (cvae) is one model for all; any other (vae) is
        trained once for each class.
    model_options: its arguments, for example {"latent_dim": 16}.
    image_shape: (H, W) or (C, H, W) of the images that X has as rows; None: rows are a table.
    examples, minutes: the budget of training, over all classes; one of them (default: 100,000 examples).
    codes: codes per image and class of the estimate of log p(x | y).
    reject: share of images of the classes that `rejects` refuses; with n images held out, no less than 1 / (n + 1).
    trainer_options: other options of `Trainer`, for example {"lr": 3e-3}.
    device: auto, cpu, cuda or mps.
    random_state: seed of everything random.

    Attributes
    ----------
    classes_: (K,) the labels. models_: the trained models, one or K. temperature_: of p(y | x), fitted on the tenth of
    the images that was held out of training, where each class has images to spare. threshold_: the log p(x) below which
    `rejects` refuses, nats. n_features_in_: numbers per image.
    """

    def __init__(
        self, model: str = "cvae", *, model_options: dict[str, Any] | None = None, image_shape: tuple | None = None,
        examples: int | None = None, minutes: float | None = None,
        trainer_options: dict[str, Any] | None = None, codes: int = classify.CODES, reject: float = 0.01,
        device: str = "auto", random_state: Any = None,
    ):  # fmt: skip
        self.model, self.model_options, self.image_shape = model, model_options, image_shape
        self.examples, self.minutes, self.codes, self.reject = examples, minutes, codes, reject
        self.trainer_options, self.device, self.random_state = trainer_options, device, random_state

    def fit(self, X: Any, y: Any) -> BayesClassifier:
        """X: images or rows, (N, ...); y: (N,) classes, at least two images of each."""
        if self.codes < 1:
            raise InputError(f"codes={self.codes}: give at least one per image and class.")
        check_share("reject", self.reject)
        images, y = self._pictures(X, True, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(column_or_1d(y), return_inverse=True)
        if len(codes) != len(images):
            raise InputError(f"{len(codes)} labels for {len(images)} images; give one for each.")
        self._start()
        whole = Images(images.pixels, torch.from_numpy(codes).long())
        train, held = hold_out_by_class(whole, self._seed)
        assert train.labels is not None
        self._prior = torch.bincount(train.labels, minlength=len(self.classes_)) / len(train)
        self._told = "num_classes" in registry.arguments(registry.model_class(self.model))  # one model for all
        if self._told:
            self.models_ = [
                self._train(self.model, train, held, {"num_classes": len(self.classes_)}, None, classify.need_classes)
            ]
        else:
            share = 1 / len(self.classes_)
            budget = {"minutes": self.minutes * share} if self.minutes else {
                "examples": max(1, int((self.examples or EXAMPLES) * share))}  # fmt: skip
            parts = [(train.select(own(train, k)), held.select(own(held, k))) for k in range(len(self.classes_))]
            check = classify.need_likelihood
            self.models_ = [self._train(self.model, *part, {}, budget, check) for part in parts]
        joint = self._log_joint(held)
        assert held.labels is not None
        self.temperature_ = classify.fit_temperature(joint, held.labels)
        self.threshold_ = classify.least_evidence(joint.logsumexp(1), self.reject)
        return self

    def _log_joint(self, images: Images) -> Tensor:
        models = self.models_[0] if self._told else self.models_
        return classify.log_joint(models, images, self._prior, self.codes, self._seed)

    def _verdict(self, X: Any) -> classify.Verdict:
        check_is_fitted(self)
        return classify.Verdict(self._log_joint(self._pictures(X, False)[0]), self.temperature_)

    def predict_joint_log_proba(self, X: Any) -> np.ndarray:
        """log p(x, y), (N, K) nats."""
        return self._verdict(X).log_joint.double().numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log p(y | x), (N, K)."""
        verdict = self._verdict(X)
        return (verdict.log_joint.double() / verdict.temperature).log_softmax(1).numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """p(y | x), (N, K)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each image (N,), of an image of no class too: ask `rejects`."""
        label = self._verdict(X).label.numpy()
        return self.classes_[label]

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x), (N,) nats; low for images of no class."""
        return self._verdict(X).log_evidence.double().numpy()

    def rejects(self, X: Any) -> np.ndarray:
        """True (N,) where log p(x) is below what nearly all images of the classes have."""
        return self.score_samples(X) < self.threshold_


def own(images: Images, k: int) -> Tensor:
    """The rows (n,) of class k."""
    assert images.labels is not None
    return (images.labels == k).nonzero()[:, 0]


def hold_out_by_class(images: Images, seed: int) -> tuple[Images, Images]:
    """A tenth of each class, at least one image, apart from the rest: (rest, held). A class of one image has it in both."""
    rest, held = [], []
    for k in range(int(images.labels.max()) + 1):  # type: ignore[union-attr]
        index = own(images, k)
        of_class = Images(index[:, None, None, None])
        a, b = hold_out(of_class, seed) if len(index) > 1 else (of_class, of_class)
        rest.append(a.pixels.flatten())
        held.append(b.pixels.flatten())
    return images.select(torch.cat(rest).sort().values), images.select(torch.cat(held).sort().values)
