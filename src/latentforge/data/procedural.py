"""The named sets that are drawn, not read: points of two mixtures, and shapes with descriptors. Fixed seeds."""

from __future__ import annotations

from collections.abc import Callable

from latentforge.data.decode import Found, Part
from latentforge.data.modes import Modes, grid, ring
from latentforge.data.synthetic import DESCRIPTORS, mixture, shapes

POINTS = (100_000, 10_000, 10_000)  # train, validation, test
SHAPES = (20_000, 2_000, 2_000)


def _points(name: str, modes: Modes, seed: int) -> Found:
    points, component = mixture(sum(POINTS), modes.centres, modes.std, seed)
    found = _cut(name, Part(modes.to_pixels(points), component), POINTS)
    found.modes = modes
    return found


def _shapes() -> Found:
    found = _cut("shapes", Part(*shapes(sum(SHAPES), seed=2)), SHAPES)
    found.descriptors = list(DESCRIPTORS)
    return found


def _cut(name: str, part: Part, counts: tuple[int, int, int]) -> Found:
    a, b = counts[0], counts[0] + counts[1]
    assert part.labels is not None
    train, validation, test = (Part(part.pixels[s], part.labels[s]) for s in (slice(0, a), slice(a, b), slice(b, None)))
    return Found(f"{name} (drawn with a fixed seed)", train, validation, test)


MAKE: dict[str, Callable[[], Found]] = {
    "ring": lambda: _points("ring", ring(), 0),
    "grid": lambda: _points("grid", grid(), 1),
    "shapes": _shapes,
}
