"""Pre-training: a classifier of MNIST that starts from a trained model, against the same network from random weights, at 100
and 1,000 labels, five choices of which.

    python benchmarks/finetune.py [CELL ...] [--data-dir DIR]   # measure what is missing
    python benchmarks/finetune.py --table                       # Markdown
    python benchmarks/finetune.py --small --data-dir DIR        # next to no training, kept nowhere

A cell is a model, trained for two minutes on all images without labels, and the part that starts. Test images are looked at
once per draw and start. Kept in benchmarks/results/finetune/CELL.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import keep_result, machine
from zoo import run_inside

import latentforge as lf
from latentforge.tasks.finetune import gain

RESULTS = Path(__file__).parent / "results" / "finetune"
CELLS = {
    "vae-encoder": ("vae --data mnist", "encoder"),
    "denoising-autoencoder-encoder": ("denoising-autoencoder --data mnist", "encoder"),
    "dcgan-critic": ("dcgan --data mnist", "critic"),
    "vae-gan-encoder": ("vae-gan --data mnist", "encoder"),
}
BUDGET = ["--minutes", "2"]
LABELS = (100, 1000)


def measure(cell: str, data_dir: str | None, small: bool) -> dict[str, Any]:
    call, part = CELLS[cell]
    command = ["train", *call.split(), *(["--examples", "500"] if small else BUDGET)]
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        began = time.monotonic()
        run_inside([*command, "--quiet", "--out", run, *(["--data-dir", data_dir] if data_dir else [])])
        model, data = lf.load(run), lf.open_data("mnist", data_dir=data_dir)
        options = {"draws": 2, "steps": 5} if small else {}
        found = [gain(model, data, n, part=part, **options) for n in LABELS]
    return {
        "cell": cell, "command": "latentforge " + " ".join(command), "seed": 0, "part": part, "rows": found,
        "seconds": round(time.monotonic() - began, 1), "machine": machine(),
    }  # fmt: skip


def table() -> str:
    found = [json.loads(f.read_text()) for c in CELLS if (f := RESULTS / f"{c}.json").exists()]
    if not found:
        return "Not measured yet: `python benchmarks/finetune.py` does."
    lines = [
        "| `train …` | part | labels | test error, % | from random weights, % | gain, percentage points |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for r in found:
        for row in r["rows"]:
            cells = [
                f"{100 * row[k]:.2f} ({100 * row[f'{k}_low']:.2f} to {100 * row[f'{k}_high']:.2f})"
                for k in ("pretrained", "random", "gain")
            ]
            lines.append(f"| `{CELLS[r['cell']][0]}` | {r['part']} | {row['labels']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--data-dir")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    for cell in options.cells or CELLS:
        file = RESULTS / f"{cell}.json"
        if file.exists() and not options.small:
            continue
        result = measure(cell, options.data_dir, options.small)
        gains = {r["labels"]: round(r["gain"], 4) for r in result["rows"]}
        print(cell, f"{result['seconds']:.0f} s", gains, flush=True)
        if not options.small:
            keep_result(file, result)


if __name__ == "__main__":
    main()
