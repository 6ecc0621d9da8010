"""Codes of images."""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.data.batch import Images
from latentforge.errors import InputError
from latentforge.game import Game


def need_encoder(model: Game) -> None:
    """InputError where the model cannot encode."""
    if not model.has_encoder:
        raise no_encoder(model.name)


def no_encoder(name: str) -> InputError:
    return InputError(f"{name} has no encoder; train one that has: autoencoder, vae, aae, bigan or vae-gan.")


def need_shape(model: Game, shape: tuple[int, int, int], where: str) -> None:
    """InputError where images of `shape` do not fit the model."""
    if tuple(shape) != tuple(model.image_shape):
        c, h, w = model.image_shape
        raise InputError(
            f"{where}: images {tuple(shape)} (C, H, W) do not fit the model's {(c, h, w)}; "
            f"add --image-size {h}x{w} --channels {c}."
        )


@torch.no_grad()
def embed(model: Game, images: Tensor | Images) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation of every image, both (N, Z). Images (N, C, H, W) in [0, 1]."""
    need_encoder(model)
    split = images if isinstance(images, Images) else Images(images)
    need_shape(model, split.shape, "images")
    model.eval()
    posteriors = [model.encode(b.image.to(model.device), model.labels_of(b)) for b in split.batches()]
    return torch.cat([q.mean for q in posteriors]).cpu(), torch.cat([q.stddev for q in posteriors]).cpu()
