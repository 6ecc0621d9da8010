"""The Inception network of published Frechet distances, through torchmetrics and torch-fidelity: the extra `inception`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from latentforge.data.decode import reason, shown
from latentforge.errors import InputError

WEIGHTS = "LATENTFORGE_INCEPTION"  # environment variable: the file of weights, where it is not to be downloaded
SHA256 = "6726825d"  # how the hash of that file begins; it is in the file's published name


def inception() -> tuple[str, Callable[[Tensor], Tensor]]:
    """What it is, and the map from images (N, C, H, W) in [0, 1] to 2,048 features."""
    given = os.environ.get(WEIGHTS)
    if given:
        given = os.path.expanduser(given)
        check(Path(given))
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        net = FrechetInceptionDistance(2048, feature_extractor_weights_path=given).inception
    except ImportError:
        raise InputError("features 'inception' need the extra: pip install 'latentforge[inception]'.") from None
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the weights of the Inception network cannot be had ({reason(error)}); download "
            f"weights-inception-2015-12-05-6726825d.pth elsewhere and set {WEIGHTS} to its path."
        ) from None

    def features(images: Tensor) -> Tensor:
        colour = images[:, :3] if images.shape[1] > 2 else images[:, :1].expand(-1, 3, -1, -1)  # alpha is left out
        with torch.no_grad():
            return torch.cat([net((255 * x + 0.5).clamp(0, 255).byte()) for x in colour.split(64)])

    return f"Inception-v3 of 2015, 2,048 features, sha256 {SHA256}", features


def check(path: Path) -> None:
    """InputError unless the file is there and is the published one."""
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{WEIGHTS}: cannot read {shown(path)} ({error.strerror or reason(error)}).") from None
    if not found.startswith(SHA256):
        raise InputError(f"{WEIGHTS}: {shown(path)} is not the published file (sha256 {found[:8]}, expected {SHA256}).")
    torch.load(path, map_location="cpu", weights_only=True)  # 8 digits are no proof: nothing but tensors may be inside
