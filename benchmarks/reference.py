"""Numbers that others have published too, on full MNIST; finished cells are skipped.

    python benchmarks/reference.py [--data-dir DIR]        # train what is missing (about half an hour on two cores)
    python benchmarks/reference.py --table                 # the table of docs/results.md

Every cell is a command of the tool; its test numbers are kept in benchmarks/results/reference/CELL-seedS.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import keep_result, machine

RESULTS = Path(__file__).parent / "results" / "reference"
CELLS = {
    "vae-dense-20": "vae --net mlp --hidden 400 --latent-dim 20 --epochs 10",
    "vae-conv-2": "vae --net conv --latent-dim 2 --epochs 10",
    "autoencoder-2-no-kl": (
        "autoencoder --net article-004 --latent-dim 2 --epochs 10 --reconstruction bernoulli --sampler prior"
    ),
}
SEEDS = {cell: 3 if cell in ("vae-dense-20", "vae-conv-2") else 1 for cell in CELLS}
SHOWN = ("loss_nats", "kl_nats", "reconstruction_mse", "coverage", "density", "frechet")


def measure(cell: str, seed: int, data_dir: str | None) -> None:
    """Train one cell, evaluate it on the test set, keep the numbers."""
    command = f"train {CELLS[cell]} --data mnist --seed {seed}"
    where = ["--data-dir", data_dir] if data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        began = time.monotonic()
        call([*command.split(), "--quiet", "--out", run, *where])
        seconds = time.monotonic() - began
        call(["evaluate", run, "--metrics", "own,samples,codes", "--features", "pca50", "--repeats", "0"])
        metrics = json.loads((Path(run) / "metrics.json").read_text())
    result = {
        "cell": cell, "command": f"latentforge {command}", "seed": seed, "seconds": round(seconds, 1),
        "training": metrics["training"], "test": metrics["test"], "machine": machine(),
    }  # fmt: skip
    keep_result(RESULTS / f"{cell}-seed{seed}.json", result)
    print(cell, seed, f"{seconds:.0f} s", {k: round(v["value"], 4) for k, v in metrics["test"].items()}, flush=True)


def call(arguments: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "latentforge", *arguments], check=True, stdout=subprocess.DEVNULL)


def table() -> str:
    """Mean over seeds, and the standard deviation where there are several."""
    lines = ["| command | seeds | " + " | ".join(SHOWN) + " |", "| --- | ---: |" + " ---: |" * len(SHOWN)]
    baselines: dict[str, float] = {}
    for cell, command in CELLS.items():
        files = sorted(RESULTS.glob(f"{cell}-seed*.json"))
        if not files:
            continue
        tests = [json.loads(f.read_text())["test"] for f in files]
        cells = []
        for name in SHOWN:
            rows = [v for t in tests for k, v in t.items() if k.startswith(name)]
            baselines |= {name: r["baseline"] for r in rows if r.get("baseline") is not None and cell == "vae-dense-20"}
            values = [r["value"] for r in rows]
            spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4g}{spread}" if values else "")
        lines.append(f"| `train {command}` | {len(files)} | " + " | ".join(cells) + " |")
    trivial = " | ".join(f"{baselines[n]:.4g}" if n in baselines else "" for n in SHOWN)
    lines.append(f"| trivial baseline: independent pixels / PCA-20 / one Gaussian in PCA-50 | | {trivial} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--data-dir")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    else:
        for name in options.cells or CELLS:
            for s in range(SEEDS[name]):
                if not (RESULTS / f"{name}-seed{s}.json").exists():
                    measure(name, s, options.data_dir)
