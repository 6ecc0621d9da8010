"""How probable held-out digits are under a VAE: the estimate of 500 codes for every test image, and the loss on grey values.

    python benchmarks/density.py [CELL ...] [--data-dir DIR] [--runs DIR]   # train what is missing
    python benchmarks/density.py --table                                    # Markdown

Every cell is a command of the tool with a wall-clock budget on two idle cores. Its numbers are kept in
benchmarks/results/density/CELL.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine
from zoo import run_outside

import latentforge as lf
from latentforge.data.batch import Batch
from latentforge.metrics.likelihood import CODES, importance_nll, prepare
from latentforge.parts.likelihood import bernoulli_nll

RESULTS = Path(__file__).parent / "results" / "density"
CELLS = {
    "density": "vae --data mnist --net resnet --latent-dim 32 --binarise --lr 2e-3 --schedule cosine --minutes 60",
    "grey-5": "vae --data mnist --net mlp --hidden 1024,512 --kl-warmup 300000 --schedule cosine --precision bf16 --minutes 5",
}


def nats(model, data: lf.Dataset) -> dict[str, Any]:
    """-log p(x) of all test images, drawn once as black and white: mean, its standard error, and the bound of one code."""
    found, bound, independent = [], [], []
    mean = torch.cat([b.image for b in data.train.batches(1000)]).mean(0).clamp(1e-4, 1 - 1e-4)
    generator = torch.Generator().manual_seed(1)
    for start in range(0, len(data.test), 500):
        batch = data.test[torch.arange(start, min(start + 500, len(data.test)))]
        x = prepare(batch.image, "dynamic", seed=start)
        independent.append(bernoulli_nll(torch.logit(mean).expand_as(x), x))
        found.append(importance_nll(model, Batch(x, batch.label, batch.index), seed=start))
        with torch.no_grad():
            q = model.encode(x)
            z = q.sample(torch.randn(len(x), model.latent_dim, generator=generator))
            bound.append(model.reconstruction_nll(z, x) + q.kl())
    values = torch.cat(found).double()
    return {
        "nll": float(values.mean()), "standard_error": float(values.std() / len(values) ** 0.5), "codes": CODES,
        "images": len(values), "negative_elbo": float(torch.cat(bound).double().mean()),
        "independent_pixels": float(torch.cat(independent).double().mean()),
    }  # fmt: skip


def measure(cell: str, data_dir: str | None, runs: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(runs or folder) / f"density-{cell}")
        command = ["train", *CELLS[cell].split(), "--seed", "0"]
        began = time.monotonic()
        run_outside([*command, "--quiet", "--out", run, *(["--data-dir", data_dir] if data_dir else [])])
        seconds = time.monotonic() - began
        run_outside(["evaluate", run, "--metrics", "own", "--repeats", "0"])
        metrics = json.loads((Path(run) / "metrics.json").read_text())
        model, data = lf.load(run), lf.open_data("mnist", data_dir=data_dir)
    result = {
        "command": "latentforge " + " ".join(command), "seed": 0, "seconds": round(seconds, 1),
        "parameters": sum(p.numel() for p in model.parameters()), "training": metrics["training"],
        "test": metrics["test"], "dynamic": nats(model.eval(), data), "machine": machine(),
    }  # fmt: skip
    keep_result(RESULTS / f"{cell}.json", result)
    print(cell, f"{seconds:.0f} s", result["dynamic"], result["test"]["loss_nats"]["value"], flush=True)


def table() -> str:
    """Markdown, a row for each finished cell."""
    kept = {c: json.loads((RESULTS / f"{c}.json").read_text()) for c in CELLS if (RESULTS / f"{c}.json").exists()}
    if not kept:
        return "Not measured yet: `make density` does."
    lines = [
        "| `train …` | minutes | images seen | parameters | loss | nll of black and white | bound of one code |",
        "| --- |" + " ---: |" * 6,
    ]
    for cell, r in kept.items():
        d = r["dynamic"]
        lines.append(
            f"| `{CELLS[cell]}` | {r['seconds'] / 60:.0f} | {r['training']['examples']:,} | {r['parameters']:,} | "
            f"{r['test']['loss_nats']['value']:.2f} | {d['nll']:.2f} ± {d['standard_error']:.2f} | {d['negative_elbo']:.2f} |"
        )
    return "\n".join([*lines, f"| independent pixels | | | | | {d['independent_pixels']:.2f} | |"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help=f"some of {', '.join(CELLS)}; all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", help="folder to keep the runs in")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    else:
        for cell in CELLS:
            if (not options.cells or cell in options.cells) and not (RESULTS / f"{cell}.json").exists():
                measure(cell, options.data_dir, options.runs)
