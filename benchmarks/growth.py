"""How cost grows: images per second and memory against batch, side of the image, width, size of the code, number of images.

    python benchmarks/growth.py [--seconds 6] [--rounds 3]    # measure what is missing
    python benchmarks/growth.py --table                       # Markdown

Each cell trains one model on random pixels in a process of its own, everything but one axis at its usual value; a round is one
run of every cell, so that a machine that drifts does not stay with one. Kept in benchmarks/results/growth.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import keep_result, machine, other

RESULTS = Path(__file__).parent / "results" / "growth.json"
MODELS = ("vae", "vae-gan")
USUAL = {"batch": 64, "side": 32, "width": 32, "code": 16, "images": 10_000}
AXES = {
    "batch": (16, 32, 64, 128, 256, 512),
    "side": (28, 32, 48, 64, 96, 128, 256),
    "width": (8, 16, 32, 64, 128),
    "code": (2, 16, 64, 256),
    "images": (1000, 10_000, 100_000),
}


def cells() -> list[dict[str, Any]]:
    """Every cell once: those at the usual values are shared by all axes."""
    rows = [{"model": m, **USUAL, axis: value} for m in MODELS for axis, values in AXES.items() for value in values]
    return [row for i, row in enumerate(rows) if row not in rows[:i]]


def one(cell: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Train in this process, and measure the second stage of a model that has two."""
    import torch

    import latentforge as lf
    from latentforge.allocator import keep_freed_memory
    from latentforge.train import Trainer

    pixels = torch.randint(0, 256, (cell["images"], 3, cell["side"], cell["side"]), dtype=torch.uint8)
    data = lf.open_data(pixels)
    own = (
        {"game": "r3gan", "mix": 0.3, "share": 0.0, "critic_width": cell["width"]} if cell["model"] == "vae-gan" else {}
    )
    model = lf.create(cell["model"], image_shape=data.image_shape, latent_dim=cell["code"], width=cell["width"], **own)
    trainer = Trainer(model, data, examples=10**9, batch_size=cell["batch"], sampler="prior", quiet=True)
    stamps = []
    with keep_freed_memory():
        begin = time.perf_counter()
        while len(stamps) < 12 or time.perf_counter() - begin < seconds:
            trainer.round()
            stamps.append(time.perf_counter())
    spent = sorted(b - a for a, b in zip(stamps[3:], stamps[4:], strict=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"images_per_second": round(cell["batch"] / spent[len(spent) // 2], 1), "peak_memory_mb": peak}


def measure(seconds: float, rounds: int) -> None:
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"machine": machine(), "cells": []}
    if other(kept["machine"]):
        raise SystemExit(f"{RESULTS} was begun on another processor; delete it to measure anew.")
    for done, cell in [(r, c) for r in range(rounds) for c in cells()]:
        if sum(cell == row["cell"] for row in kept["cells"]) > done:
            continue
        command = [sys.executable, __file__, "--cell", json.dumps(cell), "--seconds", str(seconds)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"{cell}: {run.stderr.strip().splitlines()[-1]}")
        kept["cells"].append({"cell": cell, **json.loads(run.stdout.splitlines()[-1])})
        keep_result(RESULTS, kept)
        print(kept["cells"][-1], flush=True)


def table() -> str:
    """Markdown: one row per value of each axis, both models beside each other; medians, and the range of images per second."""
    if not RESULTS.exists():
        return "Not measured yet: `make growth` does."
    found = json.loads(RESULTS.read_text())["cells"]
    heads = [f"{m}: {what}" for m in MODELS for what in ("images/s", "MB")]
    lines = ["| axis | value | " + " | ".join(heads) + " |", "| --- | ---: |" + " ---: |" * len(heads)]
    for axis, values in AXES.items():
        for value in values:
            runs = [[r for r in found if r["cell"] == {"model": m, **USUAL, axis: value}] for m in MODELS]
            shown = [cell_of(rows) for rows in runs]
            lines.append(f"| {axis} | {value:,} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def cell_of(rows: list[dict[str, Any]]) -> str:
    """Two columns: the median rate, with its range where there is one, and the median memory."""
    if not rows:
        return " | "
    rates, memory = ([row[k] for row in rows] for k in ("images_per_second", "peak_memory_mb"))
    spread = f" ({min(rates):,.0f} to {max(rates):,.0f}, {len(rates)} runs)" if len(rates) > 1 else ""
    return f"{statistics.median(rates):,.0f}{spread} | {statistics.median(memory):,.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    elif options.cell:
        print(json.dumps(one(options.cell, options.seconds)))
    else:
        measure(options.seconds, options.rounds)
