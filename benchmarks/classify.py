"""Classes by Bayes' rule: `lf.BayesClassifier` with one conditional model and with one model per class, beside a Gaussian
per class, which is the same rule with the trivial density, and beside nearest neighbours and logistic regression, which have
none.

    python benchmarks/classify.py [CELL ...] [--data-dir DIR]   # measure what is missing
    python benchmarks/classify.py --table                       # Markdown
    python benchmarks/classify.py --small                       # next to no training, on validation images, kept nowhere

A cell is SET/MODEL. It is trained on the training images, a tenth of which go to the temperature and the threshold of the
rejection, and sees the test images once. Images of no class are the first 2,000 test images of the other set. Kept in
benchmarks/results/classify/SET-MODEL.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import keep_result, machine
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

import latentforge as lf
from latentforge.tasks.classify import Verdict, fit_temperature, measures

RESULTS = Path(__file__).parent / "results" / "classify"
OTHER = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}
MODELS = {
    "cvae": "one `cvae`", "vae": "ten `vae`, one per class", "gaussian": "a Gaussian per class in PCA-50",
    "neighbours": "none: nearest neighbours in PCA-50", "logistic": "none: logistic regression on PCA-50",
}  # fmt: skip
BASELINES = {
    "gaussian": "Gaussian per class", "neighbours": "nearest neighbours in PCA-50", "logistic": "logistic regression on PCA-50",
}  # fmt: skip
NEIGHBOURS = (1, 3, 5, 10)  # of which held-out images choose
CELLS = [f"{s}/{m}" for s in OTHER for m in MODELS]
MINUTES = 5.0
SEED, COMPONENTS, OF_NO_CLASS, REJECT = 0, 50, 2000, 0.01


class Gaussians:
    """log p(x, y) of a shrunk Gaussian per class in the space of 50 principal components, and of what they leave over an
    isotropic one, so that p(x) sees all of the image."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.pca = PCA(COMPONENTS, random_state=0).fit(x)
        z, rest = self.split(x)
        self.variance = float(np.square(rest).sum(1).mean()) / (x.shape[1] - COMPONENTS)
        self.free = x.shape[1] - COMPONENTS
        self.parts = [(float((y == k).mean()), z[y == k].mean(0), ledoit_wolf(z[y == k])[0]) for k in range(10)]

    def split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = self.pca.transform(x)
        return z, x - self.pca.inverse_transform(z)

    def __call__(self, x: np.ndarray) -> torch.Tensor:
        z, rest = self.split(x)
        outside = -0.5 * (np.square(rest).sum(1) / self.variance + self.free * np.log(2 * np.pi * self.variance))
        columns = [np.log(p) + multivariate_normal(m, c).logpdf(z) + outside for p, m, c in self.parts]
        return torch.from_numpy(np.stack(columns, 1))


class NoDensity:
    """log p(y | x) of a classifier without a density of images: logistic regression, or nearest neighbours, as many as are
    right most often on held-out images, in the space of 50 principal components."""

    def __init__(self, kind: str, x: np.ndarray, y: np.ndarray, held: np.ndarray, truth: np.ndarray):
        self.pca = PCA(COMPONENTS, random_state=0).fit(x)
        z, near = self.pca.transform(x), self.pca.transform(held)
        if kind == "logistic":
            self.model: Any = LogisticRegression(max_iter=1000).fit(z, y)
        else:
            found = [KNeighborsClassifier(k).fit(z, y) for k in NEIGHBOURS]
            self.model = max(found, key=lambda model: model.score(near, truth))

    def __call__(self, x: np.ndarray) -> torch.Tensor:
        p = self.model.predict_proba(self.pca.transform(x))
        if isinstance(self.model, KNeighborsClassifier):  # a class that none of the neighbours has is not impossible
            k = self.model.n_neighbors
            p = (k * p + 1 / p.shape[1]) / (k + 1)
        return torch.from_numpy(np.log(p.clip(1e-12)))


def flat(images: lf.data.Images) -> np.ndarray:
    return images.pixels.flatten(1).numpy() / 255


def measure(cell: str, data_dir: str | None, minutes: float = MINUTES, limit: int | None = None) -> dict[str, Any]:
    name, model = cell.split("/")
    data = lf.open_data(name, data_dir=data_dir)
    split = "validation" if limit else "test"
    foreign = getattr(lf.open_data(OTHER[name], data_dir=data_dir), split).pixels[: limit or OF_NO_CLASS].numpy()
    images = getattr(data, split)
    test, labels = images.pixels[:limit], images.labels[:limit]
    began = time.monotonic()
    strange = None
    if model in ("neighbours", "logistic"):
        held = flat(data.validation)
        judge = NoDensity(model, flat(data.train), data.train.labels.numpy(), held, data.validation.labels.numpy())  # type: ignore[union-attr]
        temperature, threshold = fit_temperature(judge(held), data.validation.labels), 0.0  # type: ignore[arg-type]
        trained = time.monotonic() - began
        joint = judge(test.flatten(1).numpy() / 255)
    elif model == "gaussian":
        gaussians = Gaussians(flat(data.train), data.train.labels.numpy())  # type: ignore[union-attr]
        held = gaussians(flat(data.validation))
        temperature, threshold = (
            fit_temperature(held, data.validation.labels),
            float(held.logsumexp(1).quantile(REJECT)),
        )  # type: ignore[arg-type]
        trained = time.monotonic() - began
        joint, strange = gaussians(test.flatten(1).numpy() / 255), gaussians(foreign.reshape(len(foreign), -1) / 255)
    else:
        classifier = lf.BayesClassifier(model, minutes=minutes, reject=REJECT, random_state=SEED)
        classifier.fit(data.train.pixels.numpy(), data.train.labels.numpy())  # type: ignore[union-attr]
        trained = time.monotonic() - began
        temperature, threshold = classifier.temperature_, classifier.threshold_
        joint = torch.from_numpy(classifier.predict_joint_log_proba(test.numpy()))
        strange = torch.from_numpy(classifier.predict_joint_log_proba(foreign))
    verdict = Verdict(joint, temperature)
    confidence, right = verdict.probability.max(1).values, verdict.label == labels
    edges = np.r_[0, 0.5, 0.7, 0.9, 0.99, 0.999, 1.0001]
    reliability = [
        {"from": a, "to": min(b, 1.0), "images": int(m.sum()), "confidence": float(confidence[m].mean()),
         "accuracy": float(right[m].double().mean())}
        for a, b in zip(edges[:-1], edges[1:], strict=True) if (m := (confidence >= a) & (confidence < b)).any()
    ]  # fmt: skip
    none: dict[str, Any] = {}
    if strange is not None:
        evidence, other = joint.logsumexp(1), strange.logsumexp(1)
        none["no_class"] = {
            "set": OTHER[name], "images": len(strange), "rejected": float((other < threshold).double().mean()),
            "rejected_of_test": float((evidence < threshold).double().mean()),
            "auroc": float(roc_auc_score(np.r_[np.zeros(len(evidence)), np.ones(len(other))],
                                         -np.r_[evidence.numpy(), other.numpy()])),
        }  # fmt: skip
    return {
        "command": f"python benchmarks/classify.py {cell}", "seed": SEED, "minutes": minutes,
        "seconds_of_training": round(trained, 1), "seconds_in_all": round(time.monotonic() - began, 1),
        "test": len(labels), "temperature": temperature, **measures(verdict, labels), "reliability": reliability,
        **none, "machine": machine(),
    }  # fmt: skip


def table() -> str:
    """Markdown, a row for each finished cell."""
    kept = {c: json.loads(path(c).read_text()) for c in CELLS if path(c).exists()}
    if not kept:
        return "Not measured yet: `make classify` does."
    lines = [
        "| set | density of a class | accuracy | calibration error, as it comes | with the temperature | nats | "
        "of no class: rejected, AUROC | of the classes: rejected |",
        "| --- | --- |" + " ---: |" * 6,
    ]
    for cell, r in kept.items():
        name, model = cell.split("/")
        none = r.get("no_class")  # without a density there is nothing to reject by
        rejection = f"{none['set']}: {none['rejected']:.1%}, {none['auroc']:.3f}" if none else ""
        of_test = f"{none['rejected_of_test']:.1%}" if none else ""
        lines.append(
            f"| {name} | {MODELS[model]} | {r['accuracy']:.2%} | {r['calibration_error_at_1']:.3f} | "
            f"{r['calibration_error']:.3f} | {r['nats']:.3f} | {rejection} | {of_test} |"
        )
    return "\n".join(lines)


def path(cell: str) -> Path:
    return RESULTS / f"{cell.replace('/', '-')}.json"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help=f"some of {', '.join(CELLS)}; all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    for cell in [] if options.table else CELLS:
        if options.cells and cell not in options.cells:
            continue
        if options.small:
            print(cell, measure(cell, options.data_dir, 0.05, 200)["accuracy"])
        elif not path(cell).exists():
            result = measure(cell, options.data_dir)
            keep_result(path(cell), result)
            print(cell, f"{result['seconds_in_all']:.0f} s", result["accuracy"], result.get("no_class", ""), flush=True)
