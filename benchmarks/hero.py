"""The README's picture from a run: samples left, test images and their reconstructions right.

latentforge train vae-gan --data mnist --minutes 5 --out runs/hero
python benchmarks/hero.py runs/hero
"""

from __future__ import annotations

import sys
from pathlib import Path

from pictures import IMAGES, column
from PIL import Image

from latentforge.report.grid import save

left, right = column(Path(sys.argv[1]), images=32, least=360)
sheet = Image.new("L", (left.width + right.width + 24, left.height), 255)
sheet.paste(left, (0, 0))
sheet.paste(right, (left.width + 24, 0))
save(sheet, IMAGES / "vae-gan.png")
