"""Whether synthetic images help a classifier where labels are few: the generator is trained on the very images that are
called real, and on nothing else.

    python benchmarks/augment.py [CELL ...] [--data-dir DIR]   # what is missing; finished draws are skipped
    python benchmarks/augment.py --table                       # Markdown

A cell is SET/MODEL/N: N labelled training images, drawn anew for every seed, classes as even as can be; a conditional model
trained on them for half a minute, one, or three; then the same classifier, with the same number of steps, on real images,
on 10,000 synthetic ones, and on both in equal parts, each with and without the usual turning, scaling and shifting.
Accuracy on all test images. Results: benchmarks/results/augment/CELL-seedS.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine
from scipy.stats import t as student

import latentforge as lf
from latentforge.data import Dataset
from latentforge.tasks.audit import BOTH, JITTERED, REAL, audit

RESULTS = Path(__file__).parent / "results" / "augment"
MINUTES = {
    100: 0.5,
    1000: 1.0,
    10_000: 3.0,
}  # of training by number of images, so that few are not gone through too often
MODELS = {"mnist": ("cvae", "cvae-gan"), "fashion-mnist": ("cvae",)}
CELLS = [f"{data}/{model}/{n}" for data, models in MODELS.items() for model in models for n in MINUTES]
SEEDS = (0, 1, 2, 3, 4)


def few(data: Dataset, n: int, seed: int) -> Dataset:
    """n training images, as many of each class as of any other, or one more."""
    labels, k = data.train.labels, data.num_classes
    assert labels is not None
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for c in range(k):
        own = torch.where(labels == c)[0]
        rows.append(own[torch.randperm(len(own), generator=generator)[: n // k + (c < n % k)]])
    train = data.train.select(torch.cat(rows).sort().values)
    return Dataset(data.name, f"{data.name}, {n} images", train, data.validation, data.test, classes=data.classes)


def measure(
    cell: str, seed: int, data_dir: str | None, minutes: float | None = None, results: Path = RESULTS, **how: Any
) -> dict[str, Any]:
    """One draw of images, one generator, one classifier per row. `how` goes to the audit."""
    name, model_name, n = cell.split("/")
    data = few(lf.open_data(name, data_dir=data_dir), int(n), seed)
    minutes = minutes or MINUTES[int(n)]
    began = time.monotonic()
    model = lf.fit(model_name, data, quiet=True, minutes=minutes, seed=seed)
    trained = time.monotonic() - began
    rows = audit(model, data, repeats=1, seed=seed, **how)
    result = {
        "cell": cell, "seed": seed, "command": f"python benchmarks/augment.py {cell} --seeds {seed}", "minutes": minutes,
        "training_seconds": round(trained, 1), "seconds": round(time.monotonic() - began, 1),
        "accuracy": {r["trained on"]: r["accuracy"] for r in rows}, "synthetic": rows[0]["synthetic"],
        "images": rows[0]["images"], "machine": machine(),
    }  # fmt: skip
    file = results / f"{cell.replace('/', '-')}-seed{seed}.json"
    keep_result(file, result)
    print(cell, seed, f"{result['seconds']:.0f} s", {k: round(v, 4) for k, v in result["accuracy"].items()}, flush=True)
    return result


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval over draws, by Student's t; NaN for one draw."""
    x = torch.tensor(values, dtype=torch.float64)
    if len(x) < 2:
        return float(x.mean()), float("nan")
    return float(x.mean()), float(student.ppf(0.975, len(x) - 1) * x.std() / len(x) ** 0.5)


def verdict(mean: float, width: float) -> str:
    if math.isnan(width):
        return "one draw"
    return "helped" if mean - width > 0 else "hurt" if mean + width < 0 else "no difference shown"


def table(results: Path = RESULTS) -> str:
    """Markdown: accuracies in per cent, and the paired differences that synthetic images made, with 95 % intervals over
    draws."""
    lines = [
        "| images | generator | real labels | draws | real | real, jittered | synthetic | both | both, jittered | "
        "gain | gain beside jitter |",
        "| --- | --- |" + " ---: |" * 7 + " --- | --- |",
    ]
    for cell in CELLS:
        files = sorted(results.glob(f"{cell.replace('/', '-')}-seed*.json"))
        found = [json.loads(f.read_text())["accuracy"] for f in files]
        if not found:
            continue
        names = (REAL, REAL + JITTERED, "synthetic", BOTH, BOTH + JITTERED)
        cells = [f"{100 * interval([a[name] for a in found])[0]:.2f}" for name in names]
        gains = []
        for end in ("", JITTERED):
            mean, width = interval([a[BOTH + end] - a[REAL + end] for a in found])
            gains.append(f"{100 * mean:+.2f} ± {100 * width:.2f}: {verdict(mean, width)}")
        data, model, n = cell.split("/")
        lines.append(f"| {data} | `{model}` | {int(n):,} | {len(found)} | " + " | ".join([*cells, *gains]) + " |")
    return "\n".join(lines) if len(lines) > 2 else "Not measured yet: `python benchmarks/augment.py` does."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help=f"some of {', '.join(CELLS)}; all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    else:
        for seed in options.seeds:
            for cell in options.cells or CELLS:
                if not (RESULTS / f"{cell.replace('/', '-')}-seed{seed}.json").exists():
                    measure(cell, seed, options.data_dir)
