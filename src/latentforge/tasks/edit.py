"""Images changed by arithmetic on their codes.

Attribute vectors: Larsen et al. 2016, arXiv:1512.09300, "Visual attribute vectors": the mean code of images that have
an attribute minus the mean code of images that lack it, added to the code of another image.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.nets.condition import number_of
from latentforge.report.grid import to_numbers
from latentforge.tasks.encode import Pictures, embed, images_of
from latentforge.tasks.output import write_arrays, write_images


def attribute_vector(model: Game, having: Pictures, lacking: Pictures) -> Tensor:
    """(Z,) on the CPU: the mean code of images that have an attribute minus that of images that lack it. Images are taken
    as `embed` takes them. InputError where the model has no encoder, or one of the two holds no image."""
    return vector_between(model, having, lacking)[0]


def vector_between(model: Game, having: Pictures, lacking: Pictures) -> tuple[Tensor, float]:
    """The attribute vector, and how well codes of the two sets lie apart along such a vector: the area under the ROC curve
    of their products with it, each half of the codes judged by the vector of the other half; .5 for not at all, NaN for
    fewer than two images in a set."""
    if not (len(having) and len(lacking)):
        raise InputError("an attribute vector needs images with the attribute and images without it; one is empty.")
    a, b = embed(model, having)[0], embed(model, lacking)[0]
    return a.mean(0) - b.mean(0), apart(a, b)


def apart(a: Tensor, b: Tensor) -> float:
    """See `vector_between`; codes (N, Z) and (M, Z)."""
    if min(len(a), len(b)) < 2:
        return math.nan
    found = []
    for half, other in ((0, 1), (1, 0)):
        vector = a[half::2].mean(0) - b[half::2].mean(0)
        has = torch.cat([torch.ones(len(a[other::2])), torch.zeros(len(b[other::2]))])
        found.append(float(roc_auc_score(has, torch.cat([a[other::2], b[other::2]]) @ vector)))
    return sum(found) / 2


def edit(model: Game, images: Pictures, vector: Tensor, strengths: Tensor, detail: bool = False) -> Tensor:
    """Images (N, S, C, H, W) in [0, 1], on the CPU: each of N images reconstructed from its code plus each of S
    `strengths` times `vector` (Z,). `detail` adds what the reconstruction of the image misses of it, so that strength 0
    is the image itself. A conditional model is told the images' labels throughout. Images are taken as `embed` takes them.
    InputError where the model has no encoder or no decoder, or the images do not fit."""
    split = images_of(images)
    codes, y = embed(model, split)[0], told(model, split)
    edited = decoded(model, codes[:, None] + strengths[None, :, None] * vector, y)
    if not detail:
        return edited
    missed = split[torch.arange(len(split))].image.cpu() - decoded(model, codes, y)
    return (edited + missed[:, None]).clamp_(0, 1)


def told(model: Game, images: Images) -> Tensor | None:
    """What a conditional model is told beside the codes of all these images; None for other models."""
    if model.condition is None:
        return None
    found = [model.told_with(batch) for batch in images.batches()]
    return None if any(y is None for y in found) else torch.cat([y for y in found if y is not None])


def decoded(model: Game, codes: Tensor, y: Tensor | None) -> Tensor:
    """Images (N, ..., C, H, W) on the CPU of codes (N, ..., Z); y (N, ...) holds for all codes of its row."""
    rows = codes.flatten(0, -2)
    repeated = None if y is None else y.repeat_interleave(len(rows) // max(1, len(codes)), 0)
    return model.decode(rows, repeated).cpu().unflatten(0, codes.shape[:-1])


# -- which images have an attribute ------------------------------------------------------------------------------------
def labelled(data: Dataset, attribute: str, against: str | None = None) -> tuple[Images, Images]:
    """The training images that have an attribute and those that lack it. A class, as `number_of` finds it: its images,
    and those of the class `against` or of all others. A descriptor, likewise: the images above its median, or at it where
    that is its largest value, and the rest.
    InputError where there are no labels, or none of that name."""
    labels = data.train.labels
    if labels is None:
        raise InputError(f"{data.source} has no labels; give two folders with --having and --lacking.")
    if data.descriptors is not None:
        if against is not None:
            raise InputError(f"{data.source} has descriptors, and no class to hold '{attribute}' against.")
        column = labels[:, number_of(attribute, data.descriptors, "descriptor")]
        middle = column.median()
        has = column > middle if (column > middle).any() else column == middle  # most images may have the largest value
        lacks = ~has
    else:
        names = data.classes or [str(k) for k in range(data.num_classes)]
        has = labels == number_of(attribute, names, "class")
        lacks = ~has & (labels >= 0) if against is None else labels == number_of(against, names, "class")
        if against is not None and bool((has & lacks).any()):
            raise InputError(f"'{attribute}' is held against itself; name another class.")
    return data.train.select(has), data.train.select(lacks)


# -- to files ----------------------------------------------------------------------------------------------------------
def write_edits(out: Path, originals: Tensor | None, edited: Tensor, **arrays: Any) -> str:
    """Edited images (N, ..., S, C, H, W) in [0, 1] as a sheet with a row per S of them, their original (N, C, H, W) before
    them where there is one per row; as a directory of PNG files; or as `originals` and `edited`, uint8 (..., H, W, C), with
    further arrays. Returns what was written, in words."""
    if out.suffix.lower() == ".npz":
        pixels = {"edited": edited} if originals is None else {"originals": originals, "edited": edited}
        return write_arrays(out, **{k: to_numbers(v) for k, v in pixels.items()}, **arrays)
    if out.suffix.lower() == ".png" and originals is not None and edited.dim() == 5:
        edited = torch.cat([originals[:, None], edited], 1)
    return write_images(edited.flatten(0, -4), out, columns=edited.shape[-4])
