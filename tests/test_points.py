"""Pictures of points: previews, `latentforge data --preview` and the report page of a run on a mixture."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import latentforge as lf
from latentforge.cli import main
from latentforge.data import Dataset, Images, open_data
from latentforge.preview import write_previews
from latentforge.report.page import write_report
from latentforge.report.points import draw_labelled, draw_pairs, draw_samples
from latentforge.run import Run

TINY = {"examples": 320, "batch_size": 32, "quiet": True, "device": "cpu"}


@pytest.fixture(scope="module")
def ring() -> Dataset:
    """1,400 of the points."""
    whole = open_data("ring")
    parts = [Images(p.pixels[:n], p.labels[:n]) for p, n in zip((whole.train, whole.validation, whole.test),
                                                               (1000, 200, 200), strict=True)]  # fmt: skip
    return Dataset("ring", "some of ring", *parts, modes=whole.modes)


def inked(image: Image.Image, colour: tuple[int, int, int], box: tuple[float, float, float, float]) -> int:
    """Pixels near `colour` in a part of the picture, given in shares of its sides."""
    array = np.asarray(image.convert("RGB")).astype(int)
    h, w, _ = array.shape
    x0, y0, x1, y1 = box
    part = array[int(y0 * h) : int(y1 * h), int(x0 * w) : int(x1 * w)]
    return int((abs(part - np.array(colour)).sum(2) < 90).sum())


BLUE, ORANGE, GREY = (47, 109, 179), (201, 98, 28), (180, 184, 190)
INSIDE = (0.1, 0.05, 0.95, 0.9)


def test_samples_are_drawn_where_they_are(ring):
    """Samples at the top right of the plane are at the top right of the picture, over a ring of grey."""
    samples = torch.full((500, 2, 1, 1), 0.8) + 0.01 * torch.randn(500, 2, 1, 1)
    image = draw_samples(samples, ring.train, ring.modes)
    assert min(image.size) >= 400
    assert inked(image, BLUE, (0.6, 0.1, 0.95, 0.4)) > 100
    assert inked(image, BLUE, (0.1, 0.5, 0.5, 0.9)) == 0
    assert inked(image, GREY, (0.1, 0.5, 0.5, 0.9)) > 50
    assert draw_samples(samples, ring.train, None).tobytes() != image.tobytes()  # other numbers on the axes


def test_pairs_are_joined(ring):
    far = torch.tensor([[0.2, 0.2], [0.8, 0.2]]).view(2, 2, 1, 1)
    joined, still = (
        draw_pairs(far, far + torch.tensor([0.0, 0.6]).view(2, 1, 1), ring.modes),
        draw_pairs(far, far, None),
    )
    middle = (0.1, 0.4, 0.95, 0.6)
    array = np.asarray(joined).astype(int)
    assert (array[int(0.5 * len(array)), 60:580].sum(1) < 740).sum() >= 2  # both lines cross the middle
    assert inked(still, ORANGE, middle) == 0
    assert inked(joined, ORANGE, INSIDE) > 0 < inked(still, ORANGE, INSIDE)


def test_colours_are_classes(ring):
    with_classes = draw_labelled(ring.train, ring.modes)
    without = draw_labelled(Images(ring.train.pixels), ring.modes)
    told = draw_labelled(Images(ring.train.pixels, torch.rand(len(ring.train), 3)), ring.modes)
    assert without.tobytes() == told.tobytes() != with_classes.tobytes()
    assert inked(with_classes, BLUE, INSIDE) < inked(without, BLUE, INSIDE) / 2


def test_previews(ring, tmp_path):
    torch.manual_seed(0)
    model = lf.create("vae", image_shape=(2, 1, 1), latent_dim=2, net="mlp", hidden=(4,)).eval()
    measures = write_previews(model, ring, tmp_path, 7, seed=0)
    assert "validation/reconstruction_mse" in measures
    for kind in ("samples", "reconstructions"):
        with Image.open(tmp_path / f"{kind}-00000007.png") as image:
            assert min(image.size) >= 400
            assert image.mode == "RGB"


@pytest.mark.parametrize(("name", "options"), [
    ("gan", {"hidden": (8,), "critic_hidden": (8,), "latent_dim": 2}),
    ("vae", {"net": "mlp", "hidden": (8,), "latent_dim": 2}),
])  # fmt: skip
def test_report(ring, tmp_path, name, options):
    run = tmp_path / "run"
    lf.fit(name, ring, out=run, model_options=options, **TINY)
    page = write_report(Run.open(run)).read_text(encoding="utf-8")
    assert "over training points in grey" in page
    assert ("each joined to its" in page) == (name == "vae")
    assert "original left" not in page
    strip = page.split('<div class="strip">')[1].split("</div>")[0]
    assert strip.count('width="360" height="360"') >= 2  # whole pictures, not the corner of a grid


def test_data_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "grid", "--json", "--preview", "grid.png"]) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    assert (row["shape (C, H, W)"], row["classes"]) == ("2 x 1 x 1", 25)
    assert "2,000 training points" in err
    with Image.open("grid.png") as image:
        assert min(image.size) >= 400
    assert main(["data", "grid", "--image-size", "32"]) == 2
    assert "neither size nor channels" in capsys.readouterr().err
