"""A classifier of handwritten digits that no model here ever sees: it judges what samples show.

    python benchmarks/digits.py    # train it on MNIST's training images (a minute), print its error on the test images

Kept in the temporary directory, trained again where it is missing.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from latentforge.data import Dataset, open_data

FILE = Path(tempfile.gettempdir()) / "latentforge-digits-1.safetensors"
EPOCHS = 4


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 48, 3, 2, 1), nn.BatchNorm2d(48), nn.ReLU(),
        nn.Conv2d(48, 96, 3, 1, 1), nn.BatchNorm2d(96), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(96 * 49, 10),
    )  # fmt: skip


def train(data: Dataset) -> nn.Module:
    """Adam with a rate falling to 0, images shifted by up to two pixels."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    n = len(data.train)
    steps = EPOCHS * (n // 128)
    for step, index in enumerate(i for _ in range(EPOCHS) for i in torch.randperm(n)[: n // 128 * 128].split(128)):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        batch = data.train[index]
        x = torch.roll(batch.image, torch.randint(-2, 3, (2,)).tolist(), (2, 3))
        optimizer.zero_grad()
        F.cross_entropy(model(x), batch.label).backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def classify(model: nn.Module, images: Tensor) -> Tensor:
    """The digit (N,) in each image (N, 1, 28, 28)."""
    return torch.cat([model(x).argmax(1) for x in images.split(500)])


def judge(data_dir: str | None = None) -> tuple[nn.Module, float]:
    """The classifier and its error on MNIST's test images."""
    data = open_data("mnist", data_dir=data_dir)
    model = network().eval()
    if FILE.exists():
        model.load_state_dict(load_file(FILE))
    else:
        with torch.random.fork_rng(devices=[]):
            model = train(data)
        part = FILE.with_suffix(f".{os.getpid()}")
        save_file(model.state_dict(), part)
        part.rename(FILE)
    test = data.test[torch.arange(len(data.test))]
    return model, 1 - float((classify(model, test.image) == test.label).double().mean())


if __name__ == "__main__":
    print(f"test error {judge()[1]:.4f}")
