"""The pictures of docs/models/vae-gan.md: samples of the hybrid and others, and below them test images, each followed by
its reconstruction.

    python benchmarks/flagship.py TABLE --runs DIR
    python benchmarks/pictures.py TABLE [CELL ...] --runs DIR   # docs/images/TABLE.png, of the runs in DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from flagship import PARENTS, TABLES
from PIL import Image, ImageDraw, ImageFont

import latentforge as lf
from latentforge.api import data_of
from latentforge.report.grid import grid, save
from latentforge.run import Run

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLUMNS, GAP, HEAD = 8, 16, 28  # images in a row of samples, and pixels between two models and above them


def column(run: Path, mixture: bool = False, images: int = 16, least: int = 280) -> list[Image.Image]:
    """64 samples, the first of seed 0 and none left out; `images` test images, each with what the model makes of it."""
    model, data = lf.load(run), data_of(Run.open(run))
    if mixture:
        model.sampler_kind, model.sampler = "gmm", None
        model.fit_sampler(data.train, data.validation)
    parts = [grid(model.sample(COLUMNS**2, seed=0), COLUMNS, least)]
    if model.has_encoder:
        originals = data.test[data.test.spread(images)].image
        pairs = torch.stack([originals, model.reconstruct(originals)], 1).flatten(0, 1)
        parts.append(grid(pairs, COLUMNS, least))
    return parts


def sheet(columns: dict[str, list[Image.Image]]) -> Image.Image:
    """The models beside each other, each under its command."""
    width = max(p.width for ps in columns.values() for p in ps)
    above, below = (max((ps[i].height for ps in columns.values() if len(ps) > i), default=0) for i in (0, 1))
    out = Image.new("RGB", (len(columns) * (width + GAP) - GAP, HEAD + above + GAP + below), "white")
    pen = ImageDraw.Draw(out)
    for i, (command, pictures) in enumerate(columns.items()):
        pen.text((i * (width + GAP), 4), command, "black", ImageFont.load_default(size=16))
        for y, part in zip((HEAD, HEAD + above + GAP), pictures, strict=False):
            out.paste(part, (i * (width + GAP), y))
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=[name for name, t in TABLES.items() if t.cells.keys() >= PARENTS.keys()])
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"cells of the table; default: {' '.join(PARENTS)}")
    parser.add_argument("--runs", type=Path, required=True, help="folder in which flagship.py kept the runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the runs")
    options = parser.parse_args()
    commands = TABLES[options.table].cells
    found = {
        commands[c]: column(
            options.runs / f"{options.table}-{c.removesuffix('-gmm')}-{options.seed}", c.endswith("-gmm")
        )
        for c in options.cells or PARENTS
    }
    save(sheet(found), IMAGES / f"{options.table}.png")
