"""The named sets that are drawn: the two mixtures of points, and shapes with descriptors."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from datasets import refused
from latentforge.data import open_data
from latentforge.data.modes import grid, is_points, ring
from latentforge.data.synthetic import mixture, shapes
from latentforge.metrics.shapes import MEASURED, measure_shapes


def test_centres():
    circle, square = ring(), grid()
    assert (len(circle), len(square)) == (8, 25)
    np.testing.assert_allclose(np.hypot(*circle.centres.T), 1)
    gaps = np.linalg.norm(circle.centres - np.roll(circle.centres, 1, 0), axis=1)
    np.testing.assert_allclose(gaps, 2 * np.sin(np.pi / 8))  # eight angles alike apart, no endpoint twice
    assert {tuple(c) for c in square.centres.tolist()} == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}
    assert is_points((2, 1, 1))
    assert not is_points((1, 28, 28))


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_points(name):
    data = open_data(name, seed=5)
    modes = data.modes
    assert (len(data.train), len(data.validation), len(data.test)) == (100_000, 10_000, 10_000)
    assert data.image_shape == (2, 1, 1)
    assert (data.num_classes, data.classes, data.descriptors) == (len(modes), None, None)
    assert open_data(name, seed=6).fingerprint == data.fingerprint
    for part in (data.train, data.validation, data.test):
        assert part.pixels.dtype == torch.float32
        assert 0.01 < part.pixels.min() < part.pixels.max() < 0.99  # nothing is clipped
        each = torch.bincount(part.labels) * len(modes) / len(part)
        assert abs(each - 1).max() < 0.2  # of five standard deviations of 400
        rest = (modes.to_units(part.pixels).numpy() - modes.centres[part.labels]) / modes.std
        assert abs(rest.mean(0)).max() < 0.05
        np.testing.assert_allclose(rest.std(0), 1, atol=0.03)
    assert not torch.equal(data.validation.pixels, data.test.pixels)


def test_units_and_pixels():
    for modes in (ring(), grid()):
        points, _ = mixture(500, modes.centres, modes.std, seed=3)
        back = modes.to_units(torch.from_numpy(modes.to_pixels(points)))
        assert back.shape == (500, 2)
        np.testing.assert_allclose(back, points, atol=1e-4 * modes.std)
    corner = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    assert ring().to_units(corner).tolist() == [[-1.25, 1.25]]


@pytest.mark.parametrize("options", [{"image_size": 32}, {"channels": 2}, {"channels": 1, "image_size": 8}])
def test_points_have_no_size(options):
    refused(lambda: open_data("ring", **options), "ring", "neither size nor channels", "leave out")


def test_shapes():
    start = time.process_time()
    data = open_data("shapes")
    assert time.process_time() - start < 10
    assert (len(data.train), len(data.validation), len(data.test)) == (20_000, 2_000, 2_000)
    assert data.image_shape == (1, 28, 28)
    assert (data.num_classes, data.classes, data.descriptors) == (0, None, ["x", "y", "size", "angle"])
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.labels.dtype == torch.float32
    assert data.train.labels.shape == (20_000, 4)
    pixels = data.train.pixels
    border = torch.cat([pixels[:, 0, [0, -1]].flatten(), pixels[:, 0, :, [0, -1]].flatten()])
    assert border.max() == 0  # well inside
    assert ((pixels > 0) & (pixels < 255)).float().mean() > 0.02  # edges are soft
    low, high = data.train.labels.amin(0), data.train.labels.amax(0)
    torch.testing.assert_close(low, torch.tensor([0.33, 0.33, 0.2, -torch.pi / 3]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([0.67, 0.67, 0.35, torch.pi / 3]), atol=0.01, rtol=0)
    assert np.abs(np.corrcoef(data.train.labels.T) - np.eye(4)).max() < 0.05  # descriptors tell nothing of each other


def test_shapes_are_what_their_descriptors_say():
    test = open_data("shapes").test
    told, seen = test.labels.double(), measure_shapes(test[torch.arange(len(test))].image)
    for i, name in enumerate(MEASURED):
        assert np.corrcoef(told[:, i], seen[:, i])[0, 1] > 0.995, name
    assert ((told - seen).abs().amax(0) < torch.tensor([0.005, 0.005, 0.01, 0.05])).all()
    assert (told - seen).mean(0).abs().max() < 0.002  # no bias


def test_shapes_against_a_fine_grid():
    """Rectangle or ellipse, by asking 64 points in every pixel whether they are inside."""
    images, told = shapes(12, side=28, seed=4)
    at = (np.arange(28 * 8) + 0.5) / (28 * 8)
    forms = []
    for image, (x, y, size, angle) in zip(images[:, 0] / 255, told, strict=True):
        dx, dy = np.meshgrid(at - x, at - y)
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        box = (abs(u) < size * 2**0.5 / 2) & (abs(v) < size / 2**0.5 / 2)
        oval = u**2 + 4 * v**2 < 2 * size**2 / np.pi
        gaps = [abs(f.reshape(28, 8, 28, 8).mean((1, 3)) - image).mean() for f in (box, oval)]
        assert min(gaps) < 0.004
        forms.append(int(np.argmin(gaps)))
    assert set(forms) == {0, 1}
    assert np.array_equal(images, shapes(12, side=28, seed=4)[0])
    assert not np.array_equal(images, shapes(12, side=28, seed=5)[0])


def test_measures_by_hand():
    images = torch.zeros(4, 1, 20, 40)
    images[0, 0, 5, 10:20] = 1  # a row: flat
    images[1, 0, 4:14, 7] = 1  # a column: upright
    for i in range(6):
        images[2, 0, 3 + i, 3 + i] = 1  # down to the right
    found = measure_shapes(images)
    expected = [
        [15 / 40, 5.5 / 20, (10 / 800) ** 0.5, 0],
        [7.5 / 40, 9 / 20, (10 / 800) ** 0.5, torch.pi / 2],
        [6 / 40, 6 / 20, (6 / 800) ** 0.5, torch.pi / 4],
    ]
    torch.testing.assert_close(found[:3], torch.tensor(expected, dtype=torch.float64))
    assert found[3, 2] == 0
    assert found[3, [0, 1, 3]].isnan().all()
