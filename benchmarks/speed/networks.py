"""The networks of the four workloads in plain PyTorch, for the contestants that build on it."""

from __future__ import annotations

from clockwork import LATENT
from torch import nn


def conv_vae() -> dict[str, nn.Module]:
    """TensorFlow's tutorial of a convolutional VAE, with a code of 20."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(2304, 2 * LATENT)
    )
    decoder = nn.Sequential(
        nn.Linear(LATENT, 1568), nn.ReLU(), nn.Unflatten(1, (32, 7, 7)),
        nn.ConvTranspose2d(32, 64, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 3, 1, 1),
    )  # fmt: skip
    return {"encoder": encoder, "decoder": decoder}


def dense_vae() -> dict[str, nn.Module]:
    """784-400-20-400-784, as in PyTorch's example of a VAE."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 2 * LATENT))
    decoder = nn.Sequential(nn.Linear(LATENT, 400), nn.ReLU(), nn.Linear(400, 784), nn.Unflatten(1, (1, 28, 28)))
    return {"encoder": encoder, "decoder": decoder}


def dcgan() -> dict[str, nn.Module]:
    """TensorFlow's tutorial of a DCGAN, its critic ending in a global maximum (article 004)."""
    generator = nn.Sequential(
        nn.Linear(100, 12544, bias=False), nn.BatchNorm1d(12544), nn.LeakyReLU(0.2), nn.Unflatten(1, (256, 7, 7)),
        nn.ConvTranspose2d(256, 128, 5, 1, 2, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(128, 64, 5, 2, 2, 1, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(64, 1, 5, 2, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    critic = nn.Sequential(
        nn.Conv2d(1, 64, 5, 2, 2), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Conv2d(64, 128, 5, 2, 2), nn.LeakyReLU(0.2),
        nn.Dropout(0.3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(128, 1),
    )  # fmt: skip
    return {"generator": generator, "critic": critic}


class Critic(nn.Module):
    """Logits (B, 1) and the raw output of the last convolution."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 128, 4, 2, 1))
        self.head = nn.Sequential(nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(6272, 1))

    def forward(self, x):
        f = self.body(x)
        return self.head(f), f


def vae_gan() -> dict[str, nn.Module]:
    """Strided 4x4 convolutions of 64 and 128 channels in all three networks."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1), nn.ReLU(), nn.Conv2d(64, 128, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(6272, 2 * LATENT),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(LATENT, 6272), nn.Unflatten(1, (128, 7, 7)), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(64, 1, 4, 2, 1),
    )  # fmt: skip
    return {"encoder": encoder, "decoder": decoder, "critic": Critic()}


WORKLOADS = {"conv-vae": conv_vae, "dense-vae": dense_vae, "dcgan": dcgan, "vae-gan": vae_gan}
