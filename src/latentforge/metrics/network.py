"""The small network that judges images. Trained on labels it is a classifier, trained without any it is the encoder of a
contrastive method; either way its 64 features are what distances between sets of images are measured in.

Contrastive training: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
arXiv:2002.05709, equation 1. Departures: a small network; views differ by shift, size, turn, brightness, contrast and
noise, never by mirroring, because a mirrored digit is no digit; Adam instead of LARS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentforge.clock import seeded
from latentforge.data.batch import Batch, Images, at_once
from latentforge.distributed import each

FEATURES = 64
SMALLEST = 6  # sides below this leave nothing to convolve
LARGEST = 128  # shorter side; larger images are shrunk to it first
RATE = 2e-3  # of Adam, falling to 0
TEMPERATURE = 0.2


class FeatureNet(nn.Module):
    """Strided convolutions, one dense layer, and a linear head with as many outputs as asked."""

    def __init__(self, image_shape: tuple[int, int, int], outputs: int):
        super().__init__()
        c, h, w = image_shape
        side, wide = min(h, w, LARGEST), 32
        layers: list[nn.Module] = [*block(c, wide, 5, 2 if side >= 12 else 1)]
        side = (side + 1) // 2 if side >= 12 else side
        while side > 8:
            layers += block(wide, min(2 * wide, 128), 3, 2)
            side, wide = (side + 1) // 2, min(2 * wide, 128)
        layers += block(wide, max(wide, 64), 3, 1)
        cells = min(4, side)
        self.trunk = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(cells), nn.Flatten(), nn.Linear(max(wide, 64) * cells**2, FEATURES), nn.ReLU()
        )
        self.head = nn.Linear(FEATURES, outputs)

    def features(self, image: Tensor) -> Tensor:
        """(N, 64) from images (N, C, H, W) in [0, 1]."""
        return self.trunk(2 * shrunk(image) - 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, outputs) from images (N, C, H, W) in [0, 1]."""
        return self.head(self.features(image))

    @torch.no_grad()
    def over(self, images: Tensor, head: bool = False, size: int | None = None) -> Tensor:
        """Features (N, 64), or with `head` outputs (N, outputs), of all the images, in eval mode and bounded memory."""
        self.eval()
        c, h, w = images.shape[1:]
        parts = images.split(size or at_once((c, h, w), 500))
        return torch.cat(each(parts, lambda _, x: self(x) if head else self.features(x)))


def correct(net: FeatureNet, images: Images) -> Tensor:
    """(N,) float64, 1 where the likeliest class of a classifier is that of the image."""
    parts = [(net.over(b.image, head=True).argmax(1), b.label) for b in images.batches(at_once(images.shape, 2000))]
    return torch.cat([found.eq(y) for found, y in parts if y is not None]).double()


def block(c: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(c, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def shrunk(image: Tensor) -> Tensor:
    """Images (N, C, H, W) with a shorter side of at most `LARGEST` pixels, each the mean of those it stands for."""
    side = min(image.shape[2:])
    if side <= LARGEST:
        return image
    return F.interpolate(image, [round(s * LARGEST / side) for s in image.shape[2:]], mode="area")


# -- training ----------------------------------------------------------------------------------------------------------
def train_classifier(
    images: Images, classes: int, examples: int, seed: int = 0, size: int = 128,
    change: Callable[[Tensor], Tensor] | None = None,
) -> FeatureNet:  # fmt: skip
    """Cross-entropy on labelled images, each jittered anew every time it is seen, or changed by `change`. Repeatable under
    a seed."""
    change = change or jitter
    with seeded(seed):
        net = FeatureNet(images.shape, classes)

        def loss(batch: Batch) -> Tensor:
            assert batch.label is not None
            return F.cross_entropy(net(change(batch.image)), batch.label)

        return descend(net, net.parameters(), images, loss, examples, size)


def train_contrastive(images: Images, examples: int, seed: int = 0, size: int = 256) -> FeatureNet:
    """Two views of an image are to be alike and unlike all others of the batch; no label is used."""
    with seeded(seed):
        net = FeatureNet(images.shape, FEATURES)
        project = nn.Sequential(nn.ReLU(), nn.Linear(FEATURES, FEATURES))

        def loss(batch: Batch) -> Tensor:
            views = torch.cat([disturb(jitter(batch.image)) for _ in range(2)])
            return nt_xent(project(net(views)), TEMPERATURE)

        return descend(net, [*net.parameters(), *project.parameters()], images, loss, examples, size)


def descend(net: FeatureNet, parameters, images: Images, loss, examples: int, size: int) -> FeatureNet:
    """Adam over `examples` images drawn in epochs, its rate falling to 0 along a cosine."""
    size = min(size, len(images))
    optimizer = torch.optim.Adam(parameters, RATE)
    steps = max(1, examples // size)
    net.train()
    for step, index in zip(range(steps), shuffled(len(images), size), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        batch = images[index]
        loss(replace(batch, image=shrunk(batch.image))).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def shuffled(n: int, size: int) -> Iterator[Tensor]:
    """Batches of indices, epoch after epoch; what is left over of one is dropped."""
    while True:
        yield from torch.randperm(n)[: n // size * size].split(size)


def nt_xent(views: Tensor, temperature: float) -> Tensor:
    """The contrastive loss of 2N projections (2N, F): rows i and i + N are views of one image."""
    n = len(views) // 2
    z = F.normalize(views, dim=1)
    alike = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(alike, torch.arange(2 * n).roll(n))


# -- what is done to images --------------------------------------------------------------------------------------------
def jitter(x: Tensor) -> Tensor:
    """Each image (B, C, H, W) turned by up to 10 degrees, scaled by up to 10 % and shifted by up to a tenth of its sides,
    with its edge continued."""
    n = len(x)
    turn, scale = (torch.rand(n) * 2 - 1) * math.radians(10), 1 + (torch.rand(n) * 2 - 1) * 0.1
    shift = (torch.rand(n, 2) * 2 - 1) * 0.2  # of sides that are 2 long
    cos, sin = turn.cos() * scale, turn.sin() * scale
    grid = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    places = F.affine_grid(grid, list(x.shape), align_corners=False)
    return F.grid_sample(x, places, padding_mode="border", align_corners=False)


def disturb(x: Tensor) -> Tensor:
    """Brightness by up to +-.2, contrast by a factor in [.7, 1.3], noise of a standard deviation up to .1."""
    n = len(x)
    bright, contrast, noise = torch.rand(3, n, 1, 1, 1)
    x = (x - 0.5) * (0.7 + 0.6 * contrast) + 0.5 + 0.4 * bright - 0.2
    return x + 0.1 * noise * torch.randn_like(x)
