"""The README's picture from a run: samples left, test images and their reconstructions right.

latentforge train vae-gan --data mnist --minutes 5 --out runs/hero
python benchmarks/hero.py runs/hero
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

import latentforge as lf
from latentforge.api import data_of
from latentforge.report.grid import grid, save
from latentforge.run import Run

run = Path(sys.argv[1])
model, test = lf.load(run), data_of(Run.open(run)).test
originals = test[test.spread(32)].image
pairs = torch.stack([originals, model.reconstruct(originals)], 1).flatten(0, 1)
left, right = grid(model.sample(64, seed=0), 8, least=360), grid(pairs, 8, least=360)
sheet = Image.new("L", (left.width + right.width + 24, left.height), 255)
sheet.paste(left, (0, 0))
sheet.paste(right, (left.width + 24, 0))
save(sheet, Path(__file__).parent.parent / "docs" / "images" / "vae-gan.png")
