"""Labels hidden on purpose, to see how well a model does with few. A hidden label is -1, as an unknown one is."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset
from latentforge.errors import InputError


def hide_labels(data: Dataset, keep: int, seed: int = 0) -> Dataset:
    """`data` with all but `keep` training labels hidden, as many of each class as there are; validation and test keep theirs.
    Which ones follows from the seed. InputError without classes, or where the training images have fewer labels."""
    labels = data.train.labels
    if labels is None or data.descriptors is not None:
        raise InputError(f"{data.source} has no classes, so none can be hidden; leave out --labels.")
    known = int((labels >= 0).sum())
    if not data.num_classes <= keep <= known:
        raise InputError(
            f"--labels {keep} is not possible: give {data.num_classes} (one of each class) to {known:,}, as many as "
            "training images have."
        )
    hidden = torch.full_like(labels, -1)
    index = chosen(labels, keep, seed)
    hidden[index] = labels[index]
    note = f"{keep:,} of {known:,} training labels are kept, chosen by seed {seed}; the others are hidden (-1)"
    train = Images(data.train.pixels, hidden, data.train.device)
    return dataclasses.replace(data, train=train, notes=[*data.notes, note])


def chosen(labels: Tensor, keep: int, seed: int) -> Tensor:
    """(keep,) rows with a label, classes as balanced as they allow: the first of every class, the second of every class ..."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order] >= 0]
    kinds, place = labels[order].sort(stable=True)
    of_class = order[place].split(kinds.unique_consecutive(return_counts=True)[1].tolist())
    turns = torch.cat([torch.arange(len(rows)) for rows in of_class]) * len(of_class)
    turns += torch.cat([
        torch.full((len(rows),), int(place))
        for rows, place in zip(of_class, torch.randperm(len(of_class), generator=generator), strict=True)
    ])  # fmt: skip
    return torch.cat(of_class)[turns.argsort()[:keep]]
