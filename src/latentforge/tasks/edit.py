"""Images changed by arithmetic on their codes, and codes moved along directions.

Attribute vectors: Larsen et al. 2016, arXiv:1512.09300, "Visual attribute vectors": the mean code of images that have
an attribute minus the mean code of images that lack it, added to the code of another image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from latentforge.data.batch import Batch, Images
from latentforge.data.dataset import Dataset
from latentforge.errors import InputError, suggest
from latentforge.game import Game
from latentforge.tasks.encode import embed


def attribute_vector(model: Game, having: Images | Tensor, lacking: Images | Tensor) -> Tensor:
    """(Z,) on the CPU: the mean code of images that have an attribute minus that of images that lack it. Images
    (N, C, H, W) in [0, 1]. InputError where the model has no encoder, or one of the two holds no image."""
    if not (len(having) and len(lacking)):
        raise InputError("an attribute vector needs images with the attribute and images without it; one is empty.")
    return embed(model, having)[0].mean(0) - embed(model, lacking)[0].mean(0)


def edit(model: Game, images: Images | Tensor, vector: Tensor, strengths: Tensor) -> Tensor:
    """Images (N, S, C, H, W) in [0, 1], on the CPU: each of N images rebuilt from its code plus each of S `strengths`
    times `vector` (Z,). A conditional model is told the images' labels throughout."""
    split = images if isinstance(images, Images) else Images(images)
    codes = embed(model, split)[0]
    moved = codes[:, None] + strengths[None, :, None] * vector
    return decoded(model, moved, told(model, split))


def told(model: Game, images: Images) -> Tensor | None:
    """What a conditional model is told of all these images; None for other models."""
    return model.labels_of(Batch(images.pixels[:0], images.labels, torch.arange(0)))


def decoded(model: Game, codes: Tensor, y: Tensor | None) -> Tensor:
    """Images (N, ..., C, H, W) on the CPU of codes (N, ..., Z); y (N, ...) holds for all codes of its row."""
    rows = codes.flatten(0, -2)
    repeated = None if y is None else y.repeat_interleave(len(rows) // max(1, len(codes)), 0)
    return model.decode(rows, repeated).cpu().unflatten(0, codes.shape[:-1])


# -- which images have an attribute ------------------------------------------------------------------------------------
def labelled(data: Dataset, attribute: str, against: str | None = None) -> tuple[Images, Images]:
    """The training images that have an attribute and those that lack it. A class, by name or number: its images, and those
    of the class `against` or of all others. A descriptor, by name: the images above its median, and the rest.
    InputError where there are no labels, or none of that name."""
    labels = data.train.labels
    if labels is None:
        raise InputError(f"{data.source} has no labels; give two folders with --having and --lacking.")
    if data.descriptors is not None:
        if against is not None:
            raise InputError(f"{data.source} has descriptors, and no class to hold '{attribute}' against.")
        column = labels[:, number_of(attribute, data.descriptors, "descriptor")]
        has = column > column.median()
        lacks = ~has
    else:
        names = data.classes or [str(k) for k in range(data.num_classes)]
        has = labels == number_of(attribute, names, "class")
        lacks = ~has if against is None else labels == number_of(against, names, "class")
        if against is not None and bool((has & lacks).any()):
            raise InputError(f"'{attribute}' is held against itself; name another class.")
    return data.train.select(has), data.train.select(lacks)


def number_of(name: str, names: list[str], kind: str) -> int:
    """Which of `names` is meant, by name or by number; InputError for none."""
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise InputError(f"there is no {kind} '{name}'.{suggest(name, names)}")


# -- directions --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Directions:
    """K directions in code space, and how codes lie along them."""

    axes: Tensor  # (K, Z), unit length
    mean: Tensor  # (Z,) of the codes
    stddev: Tensor  # (K,) of the codes along each
    share: Tensor  # (K,) of the codes' variance


def principal_directions(codes: Tensor, k: int) -> Directions:
    """The k orthogonal directions along which codes (N, Z) differ most, the greatest first."""
    most = min(len(codes) - 1, codes.shape[1])
    if not 1 <= k <= most:
        raise InputError(f"{k} principal directions are not to be had: {len(codes)} codes of size {codes.shape[1]} "
                         f"have 1 to {most}.")  # fmt: skip
    pca = PCA(k, svd_solver="full").fit(codes.double().numpy())
    axes, variance, share = (
        torch.from_numpy(a).to(codes.dtype)
        for a in (pca.components_, pca.explained_variance_, pca.explained_variance_ratio_)
    )
    return Directions(axes, codes.mean(0), variance.sqrt(), share)


def single_dimensions(codes: Tensor, which: tuple[int, ...]) -> Directions:
    """Single numbers of the code, as directions."""
    z = codes.shape[1]
    for j in which:
        if not 0 <= j < z:
            raise InputError(f"there is no dimension {j}; the code has 0 to {z - 1}.")
    index = torch.tensor(which)
    variance = codes.var(0)
    share = variance[index] / variance.sum().clamp(min=1e-30)
    return Directions(torch.eye(z)[index], codes.mean(0), variance[index].sqrt(), share)


def traverse(model: Game, codes: Tensor, directions: Directions, strengths: Tensor, y: Tensor | None = None) -> Tensor:
    """Images (N, K, S, C, H, W) in [0, 1], on the CPU: each code (N, Z) with its coordinate along each of K directions set
    to the codes' mean plus each of S `strengths` standard deviations, all else as it was."""
    d = directions
    along = (codes - d.mean) @ d.axes.T  # (N, K)
    step = strengths[None, None] * d.stddev[None, :, None] - along[:, :, None]  # (N, K, S)
    return decoded(model, codes[:, None, None] + step[..., None] * d.axes[:, None], y)
