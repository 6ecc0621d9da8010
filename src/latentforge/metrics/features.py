"""What distances between sets of images are measured in: a named, repeatable map from images to numbers.

digits      a classifier of handwritten digits that is part of the package (`make digits` trains it anew)
labels      the same network trained on the data's own labels
self        the same network trained on the data's own images without labels, by contrast
pca50       50 principal components of the training images: no learning, blind to sharpness
inception   the standard Inception network of published FIDs, from the extra `inception`

Nothing of these ever enters the training of a model or the fit of its sampler; trials that chose defaults were looked at in
them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset
from latentforge.distributed import rank
from latentforge.errors import InputError, suggest
from latentforge.files import atomic, cache
from latentforge.metrics.network import FEATURES, SMALLEST, FeatureNet, correct, train_classifier, train_contrastive
from latentforge.metrics.pca import PCA

FIT = 20_000  # training images a PCA is fitted on
NUMBERS = 2**29  # of images held at once as floats, 2 GiB
FEWEST = 100  # images, whatever their size
METHOD = 1  # counts changes of the networks and their training, so that no old file is taken for a new one
CLASSIFY = (400_000, 40)  # images drawn to train `labels`, and at most so many epochs
CONTRAST = (200_000, 60)
DIGIT_SETS = ("mnist", "mnist-5k")


@dataclass
class Extractor:
    """Images (N, C, H, W) in [0, 1] to features (N, F)."""

    name: str
    about: str  # one line: what it is, its error, its hash
    features: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor] | None = None  # (N, K) logits, where it is a classifier

    def __call__(self, images: Tensor) -> Tensor:
        return self.features(images).double()


def within(n: int, shape: tuple[int, int, int]) -> int:
    """n images, or as many of (C, H, W) as `NUMBERS` allows."""
    return min(n, max(FEWEST, NUMBERS // math.prod(shape)))


def choose(data: Dataset) -> str | None:
    """The features that suit a data set best: `digits` for MNIST, `labels` where there are classes, else `self`; None
    for points and other images too small to convolve."""
    if min(data.image_shape[1:]) < SMALLEST:
        return None
    if data.name in DIGIT_SETS:
        return "digits"
    return "labels" if data.num_classes > 1 and data.train.labelled() is data.train else "self"


def extractor(name: str, data: Dataset) -> Extractor:
    """The extractor of this name for a data set, trained on its training images where it has to be, and then kept in the
    cache. InputError where it cannot be had."""
    if name not in MAKE:
        raise InputError(f"no features are called '{name}'.{suggest(name, MAKE)} There are {', '.join(MAKE)}.")
    if name != "pca50" and min(data.image_shape[1:]) < SMALLEST:
        raise InputError(
            f"features '{name}' need images of at least {SMALLEST}x{SMALLEST}, {data.name} has "
            f"{data.image_shape[1]}x{data.image_shape[2]}; use --features pca50."
        )
    return MAKE[name](data)


def of_pca(data: Dataset) -> Extractor:
    train = data.train[data.train.spread(within(FIT, data.image_shape))].image.cpu()
    pca = PCA(train, 50)
    k = len(pca.variances)
    return Extractor(f"pca{k}", f"{k} principal components of {len(train):,} training images", pca)


def of_digits(data: Dataset) -> Extractor:
    with as_file(files("latentforge.metrics") / "weights" / "digits.safetensors") as path:
        net, facts = load(path, (1, 28, 28), 10)
    about = f"classifier of MNIST digits, test error {float(facts['error']):.2%}"

    def fit(images: Tensor) -> Tensor:
        grey = images.mean(1, keepdim=True)
        return grey if grey.shape[2:] == (28, 28) else F.interpolate(grey, (28, 28), mode="bilinear", antialias=True)

    return Extractor("digits", f"{about}, sha256 {facts['sha256'][:12]}", lambda x: net.over(fit(x)),
                     lambda x: net.over(fit(x), head=True))  # fmt: skip


def of_labels(data: Dataset) -> Extractor:
    k = data.num_classes
    if k < 2:
        raise InputError(f"features 'labels' need images of two classes or more, {data.name} has {k or 'no'}; "
                         "use --features self.")  # fmt: skip

    def train() -> FeatureNet:
        known = data.train.labelled()
        return train_classifier(known, k, draws(known, *CLASSIFY))

    net, facts = cached("labels", data, k, train, lambda net: {"error": error(net, data.validation)})
    about = f"classifier trained on the {k} classes of {data.name}, validation error {float(facts['error']):.2%}"
    return Extractor("labels", f"{about}, sha256 {facts['sha256'][:12]}", net.over, lambda x: net.over(x, head=True))


def of_images(data: Dataset) -> Extractor:
    def train() -> FeatureNet:
        return train_contrastive(data.train, draws(data.train, *CONTRAST))

    net, facts = cached("self", data, FEATURES, train, lambda net: {})
    about = f"encoder trained with contrastive learning on {len(data.train):,} images of {data.name}, no labels"
    return Extractor("self", f"{about}, sha256 {facts['sha256'][:12]}", net.over)


def of_inception(data: Dataset) -> Extractor:
    from latentforge.metrics.inception import inception

    return Extractor("inception", *inception())


MAKE: dict[str, Callable[[Dataset], Extractor]] = {
    "digits": of_digits, "labels": of_labels, "self": of_images, "pca50": of_pca, "inception": of_inception,
}  # fmt: skip


# -- networks on disk --------------------------------------------------------------------------------------------------
def draws(images: Images, most: int, epochs: int) -> int:
    return min(most, epochs * len(images))


def cached(
    name: str, data: Dataset, outputs: int, train: Callable[[], FeatureNet],
    facts_of: Callable[[FeatureNet], dict[str, str]],
) -> tuple[FeatureNet, dict[str, str]]:  # fmt: skip
    """A network trained on a data set, from the cache where it has been trained before. A cache that cannot be written
    costs time, nothing else: what has just been trained is rounded as its file would be."""
    path = cache() / "features" / f"{name}-{METHOD}-{data.fingerprint}.safetensors"
    with contextlib.suppress(OSError, SafetensorError, ValueError, KeyError, RuntimeError):
        return load(path, data.image_shape, outputs)
    if rank() == 0:
        print(f"training the features '{name}' on the images of {data.name}, once; later evaluations reuse them",
              file=sys.stderr, flush=True)  # fmt: skip
    net = half(train())
    facts = facts_of(net) | {"sha256": fingerprint(net)}
    with contextlib.suppress(OSError, SafetensorError):  # the second is how it reports a full disk
        path.parent.mkdir(parents=True, exist_ok=True)
        save(net, path, facts)
    return net, facts


def save(net: FeatureNet, path: Path, facts: dict[str, str]) -> None:
    """Weights as half-precision numbers, and beside them what is known of the network."""
    with atomic(path) as part:
        save_file(halves(net), part, {"facts": json.dumps(facts)})


def load(path: Path, image_shape: tuple[int, int, int], outputs: int) -> tuple[FeatureNet, dict[str, str]]:
    """The network of a file whose weights are those its hash was taken of; ValueError for others."""
    net = FeatureNet(image_shape, outputs)
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    net.load_state_dict({k: v.float() if v.dtype == torch.float16 else v for k, v in load_file(path).items()})
    if fingerprint(net) != facts["sha256"]:
        raise ValueError(f"{path}: not the weights that were written")
    return net.eval().requires_grad_(False), facts


def error(net: FeatureNet, images: Images) -> str:
    """The share of images that a classifier gets wrong."""
    return str(float((1 - correct(net, images.to("cpu"))).mean()))


def halves(net: FeatureNet) -> dict[str, Tensor]:
    return {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}


def half(net: FeatureNet) -> FeatureNet:
    """The network with its weights rounded as a file of it has them."""
    own = net.state_dict()
    net.load_state_dict({k: v.to(own[k].dtype) for k, v in halves(net).items()})
    return net


def fingerprint(net: FeatureNet) -> str:
    """sha256 of the weights as they are written."""
    digest = hashlib.sha256()
    for name, value in sorted(halves(net).items()):
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
