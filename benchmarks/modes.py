"""Mode coverage of points in the plane: the ring of 8 and the 5 x 5 grid of Gaussians (protocol of PacGAN, Lin et al.
2018, arXiv:1712.04086), five seeds.

    python benchmarks/modes.py [--seeds 0 1 2 3 4] [CELL ...]   # train what is missing; finished runs are skipped
    python benchmarks/modes.py --table                          # the table of docs/results.md
    python benchmarks/modes.py --picture                        # docs/images/modes.png

All have dense networks of two layers of 128, noise of two numbers, a rate that falls to 0 and half a minute to two on one
thread: as many points as the table says, more for those whose rounds cost less. But for the rows that say so, the generator
is ten times as fast as the critic (1e-3 and 1e-4, the rates of Metz et al. 2017 for the ring), which is where a plain GAN
loses modes and a remedy has something to remedy. A sample is of high quality within 3 standard deviations of its nearest
centre (a perfect sampler: 98.9 %); a mode is found where one such sample is. 10,000 samples. Results:
benchmarks/results/modes/SET/CELL-seedS.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine

import latentforge as lf
from latentforge.data import open_data
from latentforge.metrics.modes import mode_coverage

RESULTS = Path(__file__).parent / "results" / "modes"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "modes.png"
DENSE = {"hidden": (128, 128), "critic_hidden": (128, 128), "latent_dim": 2, "noise": "normal"}
MLP = {**DENSE, "net": "mlp"}
TRAIN = {"batch_size": 256, "examples": 256 * 8000, "schedule": "cosine", "lr": "critic=1e-4,generator=1e-3"}
SETS = ("ring", "grid")
CELLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # model, its arguments, the trainer's
    "gan": ("gan", DENSE, {}),
    "gan-own-rates": ("gan", DENSE, {"lr": None}),
    "minibatch": ("gan", {**DENSE, "minibatch": 16}, {"batch_size": 64, "examples": 64 * 16_000}),
    "unrolled-0": ("unrolled-gan", {**DENSE, "unroll": 0}, {}),
    "unrolled-5": ("unrolled-gan", {**DENSE, "unroll": 5, "unroll_rate": 0.01}, {"examples": 256 * 3000}),
    "wgan": ("wgan", {**MLP, "clip_weights": 0.1}, {"examples": 256 * 18_000, "ema": 10_000}),
    "wgan-gp": ("wgan-gp", {**MLP, "gradient_penalty": 0.1}, {"examples": 256 * 15_000}),
    "r3gan": ("r3gan", {**MLP, "r1": 0.001, "r2": 0.001, "penalty_every": 1}, {}),
    "bigan": ("bigan", {**MLP, "r1": 0.0, "penalty_every": 1}, {"lr": "critic=1e-4,generator=1e-3,encoder=1e-3"}),
    "larsen-vae-gan": (
        "larsen-vae-gan",
        {"net": "mlp", "hidden": (128, 128), "latent_dim": 2, "pixel": 3e4, "gamma": 0.01},
        {"lr": None, "examples": 256 * 6000},
    ),
}
SAMPLES = 10_000


def measure(cell: str, name: str, seed: int) -> None:
    """Train one run and keep its numbers and 1,000 of its samples."""
    model_name, arguments, options = CELLS[cell]
    data = open_data(name)
    assert data.modes is not None
    began = time.monotonic()
    model = lf.fit(model_name, data, quiet=True, seed=seed, model_options=arguments, **{**TRAIN, **options})
    seconds = time.monotonic() - began
    points = data.modes.to_units(model.sample(SAMPLES, seed=0))
    result = {
        "cell": cell, "set": name, "seed": seed, "model": model_name, "arguments": arguments,
        "train": {**TRAIN, **options}, "seconds": round(seconds, 1),
        **{k: None if math.isnan(v) else v for k, v in mode_coverage(points, data.modes).items()},
        "sampler": "prior" if model.sampler is None else model.sampler.kind, "samples": SAMPLES,
        "points": [[round(v, 4) for v in p] for p in points[:1000].tolist()], "machine": machine(),
    }  # fmt: skip
    file = RESULTS / name / f"{cell}-seed{seed}.json"
    keep_result(file, result, indent=None)
    shown = {k: result[k] for k in ("modes", "high_quality", "reverse_kl")}
    print(name, cell, seed, f"{seconds:.0f} s", shown, flush=True)


def kept(cell: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(f.read_text()) for f in sorted((RESULTS / name).glob(f"{cell}-seed*.json"))]


def command(cell: str) -> str:
    """The model and those flags that are not the same for all."""
    model, arguments, options = CELLS[cell]
    own = {k: v for k, v in arguments.items() if MLP.get(k) != v}
    own |= {k: v for k, v in options.items() if k == "batch_size"}
    shown = {k: f"{v:g}" if isinstance(v, float) else v for k, v in own.items()}
    flags = [f"--{k.replace('_', '-')} {v}" for k, v in shown.items()]
    return " ".join([model, *flags, *["(its own rates)"] * ("lr" in options and options["lr"] is None)])


def drawn(cell: str) -> int:
    """Points of the data in a training."""
    return int({**TRAIN, **CELLS[cell][2]}["examples"])


def table() -> str:
    """Mean and range over the seeds; reverse KL over those runs that have a sample near a centre."""
    head = [f"{s}: {c}" for s in SETS for c in ("modes", "high quality", "reverse KL")]
    lines = [
        "| `train …` | seeds | sampler | " + " | ".join(head) + " | points drawn | seconds |",
        "| --- | ---: | --- |" + " ---: |" * (len(head) + 2),
    ]
    for cell in CELLS:
        cells, seconds, seeds = [], [], 0
        for name in SETS:
            rows = kept(cell, name)
            if not rows:
                cells += ["", "", ""]
                continue
            seeds = len(rows)
            modes = [r["modes"] for r in rows]
            seconds += [r["seconds"] for r in rows]
            cells.append(f"{statistics.mean(modes):.1f} ({min(modes)} to {max(modes)})")
            quality = [100 * r["high_quality"] for r in rows]
            cells.append(f"{statistics.mean(quality):.1f} % ({min(quality):.1f} to {max(quality):.1f})")
            found = [r["reverse_kl"] for r in rows if r["reverse_kl"] is not None]  # None: no sample near any centre
            of = "" if len(found) == len(rows) else f" ({len(found)} of {len(rows)})"
            cells.append(f"{statistics.mean(found):.3f}{of}" if found else "none near")
        if seconds:
            lines.append(
                f"| `{command(cell)}` | {seeds} | {kept(cell, SETS[0])[0]['sampler']} | "
                + " | ".join(cells)
                + f" | {drawn(cell):,} | {statistics.median(seconds):.0f} |"
            )
    floor = {"ring": (8, 7), "grid": (25, 24)}
    perfect = [c for s in SETS for c in (str(floor[s][0]), "98.9 %", f"{floor[s][1] / (2 * SAMPLES):.4f}")]
    return "\n".join([*lines, "| perfect samples | | | " + " | ".join(perfect) + " | | |"])


def picture() -> None:
    """Samples of the first seed of every cell over both sets."""
    from matplotlib.figure import Figure

    cells = [c for c in CELLS if all(kept(c, s) for s in SETS)]
    figure = Figure(figsize=(1.7 * len(cells), 3.8), layout="constrained")
    axes = figure.subplots(2, len(cells), squeeze=False)
    for row, name in zip(axes, SETS, strict=True):
        modes = open_data(name).modes
        assert modes is not None
        for ax, cell in zip(row, cells, strict=True):
            x, y = torch.tensor(kept(cell, name)[0]["points"]).T
            ax.plot(*modes.centres.T, "o", ms=7, mfc="none", mec="#b4b8be", mew=0.7)
            ax.plot(x, y, ".", ms=1.2, color="#2f6db3")
            ax.set(
                xlim=(-modes.margin, modes.margin),
                ylim=(-modes.margin, modes.margin),
                aspect="equal",
                xticks=[],
                yticks=[],
            )
            if name == SETS[0]:
                ax.set_title(cell, fontsize=8)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--picture", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    elif options.picture:
        picture()
    else:
        torch.set_num_threads(1)  # products so small that a second thread only waits
        for seed in options.seeds:
            for cell in options.cells or CELLS:
                for name in SETS:
                    if not (RESULTS / name / f"{cell}-seed{seed}.json").exists():
                        measure(cell, name, seed)
