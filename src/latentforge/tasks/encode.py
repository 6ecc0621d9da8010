"""Codes of images."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentforge.data.arrays import images_from_array
from latentforge.data.batch import Images, is_pixels
from latentforge.errors import InputError
from latentforge.game import Game, evaluating

Pictures = Images | Tensor | np.ndarray  # what `images_of` takes, as its docstring says


def need_encoder(model: Game) -> None:
    """InputError where the model cannot encode."""
    if not model.has_encoder:
        raise no_encoder(model.name)


def no_encoder(name: str) -> InputError:
    return InputError(f"{name} has no encoder; train one that has: autoencoder, vae, aae, bigan or vae-gan.")


def need_shape(model: Game, shape: tuple[int, int, int], where: str) -> None:
    """InputError where images of `shape` do not fit the model."""
    if tuple(shape) != (own := tuple(model.image_shape)):
        raise InputError(
            f"{where}: images {tuple(shape)} (C, H, W) do not fit the model's {own}; add {own_size(model)}."
        )


def need_channels(model: Game, seen: int, where: str) -> None:
    """InputError where images of so many channels do not fit the model."""
    if seen != (channels := model.image_shape[0]):
        raise InputError(
            f"{where}: images of {seen} channel(s) do not fit the model's {channels}; add --channels {channels}."
        )


def own_size(model: Game) -> str:
    """The flags under which images of any kind are read as the model's."""
    c, h, w = model.image_shape
    return f"--image-size {h}x{w} --channels {c}"


def images_of(images: Any) -> Images:
    """What the tasks take for images: `Images`, a tensor (N, C, H, W) of bytes or numbers in [0, 1], or an array as `open_data`
    takes it. InputError for numbers of another range; a warning for what is hardly meant, as images nearly black."""
    if isinstance(images, Images):
        return images
    if isinstance(images, Tensor) and images.dim() == 4 and is_pixels(images):
        return Images(images)
    pixels, notes = images_from_array(images, "images")
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return Images(torch.from_numpy(pixels))


@torch.no_grad()
def embed(model: Game, images: Pictures) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation of every image, both (N, Z), on the CPU. Images: a split of a data set, which
    brings its labels, a tensor (N, C, H, W) of bytes or numbers in [0, 1], or an array as `open_data` takes it.
    InputError where the model has no encoder, or the images do not fit."""
    need_encoder(model)
    split = images_of(images)
    need_shape(model, split.shape, "images")
    with evaluating(model):
        posteriors = [model.encode(b.image.to(model.device), model.labels_of(b)) for b in split.batches()]
    return torch.cat([q.mean for q in posteriors]).cpu(), torch.cat([q.stddev for q in posteriors]).cpu()
