"""Detection as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from latentforge import registry
from latentforge.data.batch import hold_out
from latentforge.game import Game
from latentforge.tasks.detect import Detector, check_share
from latentforge.tasks.estimator import ImageEstimator

JUDGED = 10_000  # images of X that the threshold is found on, which gives a share of 5 % to about .2 %


class AnomalyDetector(OutlierMixin, ImageEstimator):
    """Learns what normal images look like, and scores how anomalous others are. The scores are those of `Detector`.

    Signs are those of scikit-learn's outlier detectors: `score_samples` and `decision_function` are LOWER for stranger
    images, below 0 in the second is an anomaly, and `predict` says -1 of it and +1 of the others. (PyOD has both the other
    way round: its decision_function is `-score_samples` here.)

    Parameters
    ----------
    model: a registered name, to be trained on X; or what is trained already: a `Game`, or the directory of a run.
    model_options: arguments of a model to be trained, for example {"latent_dim": 16}.
    scores: "auto", or names: pixels, features, codes, density, reconstruction, likelihood.
    contamination: share of X that is to be called anomalous, above 0, below 1; of more than 10,000 images, of as many
    spread over them.
    image_shape: (H, W) or (C, H, W) of the images that X has as rows; None: rows are a table.
    examples, minutes: the budget of training, one of them (default: 100,000 examples).
    trainer_options: other options of `Trainer`, for example {"lr": 3e-3}.
    device: auto, cpu, cuda or mps; a `Game` stays where it is.
    random_state: seed of everything random.

    Attributes
    ----------
    model_: the trained model. detector_: its scores, fitted to nine tenths of X, on which the model was trained too, or to
    all of fewer than 15 images, and scaled by the rest where that is ten or more. offset_: `decision_function` is
    `score_samples` less this. threshold_: -offset_, on scores that grow with strangeness. n_features_in_: numbers per
    image.
    """

    def __init__(
        self, model: str | Path | Game = "denoising-autoencoder", *, model_options: dict[str, Any] | None = None,
        scores: str | Sequence[str] = "auto", contamination: float = 0.05, image_shape: tuple | None = None,
        examples: int | None = None, minutes: float | None = None,
        trainer_options: dict[str, Any] | None = None, device: str = "auto", random_state: Any = None,
    ):  # fmt: skip
        self.model, self.model_options, self.scores, self.contamination = model, model_options, scores, contamination
        self.image_shape, self.examples, self.minutes = image_shape, examples, minutes
        self.trainer_options, self.device, self.random_state = trainer_options, device, random_state

    def fit(self, X: Any, y: Any = None) -> AnomalyDetector:
        """X: images or rows, (N, ...), N >= 4, nearly all of them normal. y is ignored."""
        check_share("contamination", self.contamination)
        images, _ = self._pictures(X, True)
        self._start()
        train, held = hold_out(images, self._seed)
        if isinstance(self.model, str) and self.model in registry.MODELS:
            self.model_ = self._train(self.model, train, held)
        else:
            self.model_ = self._given()
        usual, rest = (train, held) if len(held) > 1 else (images, None)
        self.detector_ = Detector(self.model_, usual, rest, self.scores, self._seed)
        judged = images.select(images.spread(JUDGED))
        self.offset_ = float(np.percentile(-self.detector_.score(judged).numpy(), 100 * self.contamination))
        return self

    @property
    def threshold_(self) -> float:
        return -self.offset_

    def score_samples(self, X: Any) -> np.ndarray:
        """(N,), lower is stranger: minus the detector's score."""
        check_is_fitted(self)
        return -self.detector_.score(self._pictures(X, False)[0]).numpy()

    def decision_function(self, X: Any) -> np.ndarray:
        """(N,), below 0 for anomalies: `score_samples` less `offset_`."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """(N,) int: -1 for anomalies, +1 for the others."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def heat_maps(self, X: Any) -> np.ndarray:
        """Squared error of the reconstruction at each pixel, (N, H, W), mean over channels."""
        check_is_fitted(self)
        images, _ = self._pictures(X, False)
        return np.concatenate([self.detector_.heat(b.image)[:, 0].numpy() for b in images.batches()])
