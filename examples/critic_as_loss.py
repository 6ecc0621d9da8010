"""A network of your own, trained with a critic of Latentforge as part of its loss: plain PyTorch, no trainer.

    latentforge train dcgan --data mnist-5k --minutes 2
    python examples/critic_as_loss.py runs/dcgan --data mnist-5k --weight 0.1

Prints, for held-out images, the squared error per pixel and the distance in the critic's features.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import nn

import latentforge as lf


class Squeeze(nn.Module):
    """A small convolutional autoencoder: images (B, C, H, W) in [0, 1] through `size` numbers and back."""

    def __init__(self, shape: tuple[int, int, int], size: int = 16, width: int = 16):
        super().__init__()
        c, h, w = shape
        self.shape = (h, w)
        self.low = (2 * width, -(-h // 4), -(-w // 4))  # after two halvings that round up
        flat = self.low[0] * self.low[1] * self.low[2]
        self.encoder = nn.Sequential(
            nn.Conv2d(c, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(flat, size),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(size, flat), nn.ReLU(), nn.Unflatten(1, self.low),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(width, c, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w = self.shape
        return self.decoder(self.encoder(x))[:, :, :h, :w]


def train(
    net: nn.Module, images, critic: lf.losses.CriticFeatures | None, weight: float, steps: int, seed: int = 0
) -> None:
    """Descend the squared error of pixels, plus `weight` times the distance in the critic's features."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = images[torch.randint(len(images), (64,), generator=generator)].image
        out = net(x)
        loss = F.mse_loss(out, x)
        if critic is not None:
            loss = loss + weight * critic(out, x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run whose model has a critic")
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--weight", type=float, default=0.1)
    parser.add_argument("--distance", choices=["features", "style"], default="features")
    options = parser.parse_args(arguments)
    data = lf.open_data(options.data)
    critic = lf.losses.CriticFeatures(options.run, distance=options.distance)
    torch.manual_seed(0)
    net = Squeeze(data.image_shape)
    train(net, data.train, critic, options.weight, options.steps)
    x = data.validation[data.validation.spread(1000)].image
    with torch.no_grad():
        out = net(x)
        found = {"mse": float(F.mse_loss(out, x)), "critic": float(critic(out, x).mean())}
    print(f"squared error per pixel {found['mse']:.5f}, distance in the critic's features {found['critic']:.4f}")
    return found


if __name__ == "__main__":
    main()
