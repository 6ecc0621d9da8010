"""Train on synthetic, test on real: the accuracy on held-out images of a classifier that has seen labelled samples only.
Higher is better. Beside it the same classifier trained on samples of a Gaussian per class, and on as many real images."""

from __future__ import annotations

from latentforge.data.batch import Images
from latentforge.metrics.features import within
from latentforge.metrics.intervals import around_mean
from latentforge.metrics.network import correct, train_classifier
from latentforge.metrics.subject import SAMPLES, Row, Subject, gaussian_images, short, some

EPOCHS = 8  # of the samples


def rows(s: Subject) -> list[Row]:
    condition, k = s.model.condition, s.data.num_classes
    if condition is None or not condition.classes or k < 2 or s.held.labels is None:
        return []
    most = within(SAMPLES, s.data.image_shape)  # of every kind, so that all classifiers have seen as many
    n = min(most, len(s.data.train.labelled()))
    real = some(s.held.labelled(), most)
    held = Images(real.image, real.label)
    asked = s.model.draw_labels(n, seed=s.seed)
    sets = {"value": Images(s.model.sample(n, label=asked, seed=s.seed).cpu(), asked)}
    sets["baseline"] = Images(*gaussian_images(s.data, n, s.seed))
    train = some(s.data.train.labelled(), n)
    sets["reference"] = Images(train.image, train.label)
    found = {
        name: correct(train_classifier(images, k, EPOCHS * len(images), s.seed), held) for name, images in sets.items()
    }
    return [{
        "measure": f"tstr-{short(n)}", **around_mean(found["value"]), "better": "higher",
        "baseline": float(found["baseline"].mean()), "which": s.which, "reference": float(found["reference"].mean()),
        "is": "training images", "images": len(held), "sampler": s.sampler,
    }]  # fmt: skip
