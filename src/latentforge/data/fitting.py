"""Every image of a source as one set, of any number and without splits: images to use a model on, not to train it."""

from __future__ import annotations

from pathlib import Path

from latentforge.data.batch import Images
from latentforge.data.dataset import _images, open_whole
from latentforge.data.decode import SUFFIXES, Item, Part, read_images, shown


def open_fitting(source: str | Path, image_shape: tuple[int, int, int], data_dir: str | None = None) -> Images:
    """All images at `source`, one file or anything `open_data` reads, cropped at the centre and resized to `image_shape`
    (C, H, W); with labels where it has any. InputError for everything that cannot be used."""
    c, h, w = image_shape
    path = Path(source)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return _images(Part(read_images([Item(shown(path), path)], path, (h, w), c, False)[0], None))
    return open_whole(source, data_dir=data_dir, image_size=(h, w), channels=c)[0]
