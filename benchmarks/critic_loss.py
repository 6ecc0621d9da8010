"""A user's own autoencoder trained on pixels alone, and with a trained critic in its loss (`lf.losses.CriticFeatures`).

    python benchmarks/critic_loss.py [CELL ...] [--seeds 0 1 2] [--data-dir DIR]   # what is missing; finished cells are skipped
        [--critic DIR]
    python benchmarks/critic_loss.py --table                                       # Markdown

The critic is that of a dcgan trained on MNIST for five minutes, one for all cells, kept at --critic, so that the cells can
be measured in several sittings; the network is that of
examples/critic_as_loss.py (a code of 16 numbers), 4,000 steps of 64 images. On all test images: squared error per pixel;
sharpness, the mean steepness between neighbouring pixels over that of the originals; the Frechet distance between features of
digits of the reconstructions and of the originals; the share of reconstructions in which the digit classifier sees another
digit than in the original. Results: benchmarks/results/critic_loss/CELL-seedS.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine
from zoo import run_outside

import latentforge as lf
from latentforge.data import Dataset
from latentforge.metrics.distance import frechet_distance
from latentforge.metrics.features import of_digits
from latentforge.tasks.compress import fingerprint

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from critic_as_loss import Squeeze, train

RESULTS = Path(__file__).parent / "results" / "critic_loss"
CRITIC = "dcgan --minutes 5 --seed 0"
CELLS: dict[str, tuple[float, dict[str, Any]]] = {  # the weight beside the squared error per pixel, what is looked at
    "pixels": (0.0, {}),
    "features .01": (0.01, {}),
    "features .1": (0.1, {}),
    "last layer .1": (0.1, {"layers": (-1,)}),
    "style .1": (0.1, {"distance": "style"}),
}
STEPS, SEEDS = 4000, (0, 1, 2)
MEASURES = {"mse": "squared error", "sharpness": "sharpness", "frechet": "Fréchet distance", "changed": "digit changed"}


def steepness(x: torch.Tensor) -> float:
    """Mean absolute difference between neighbouring pixels of images (N, C, H, W)."""
    return float((x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()) / 2)


def measure(
    cell: str, seed: int, data: Dataset, model: lf.Game, steps: int = STEPS, results: Path = RESULTS
) -> dict[str, Any]:
    weight, what = CELLS[cell]
    began = time.monotonic()
    critic = lf.losses.CriticFeatures(model, **what) if weight else None
    torch.manual_seed(seed)
    net = Squeeze(data.image_shape)
    train(net, data.train, critic, weight, steps, seed)
    seconds = time.monotonic() - began
    x = torch.cat([b.image for b in data.test.batches()])
    with torch.no_grad():
        out = torch.cat([net(b) for b in x.split(500)])
    judge = of_digits(data)
    assert judge.classify is not None
    result = {
        "cell": cell, "seed": seed, "command": f"python benchmarks/critic_loss.py '{cell}' --seeds {seed}", "critic": CRITIC,
        "fingerprint": fingerprint(model).hex(), "weight": weight, "steps": steps, "seconds": round(seconds, 1),
        "images": len(x),
        "mse": float((out - x).square().mean()), "sharpness": steepness(out) / steepness(x),
        "frechet": frechet_distance(judge(out), judge(x)),
        "changed": float((judge.classify(out).argmax(1) != judge.classify(x).argmax(1)).double().mean()),
        "judge": judge.about, "machine": machine(),
    }  # fmt: skip
    keep_result(results / f"{cell.replace(' ', '-')}-seed{seed}.json", result)
    print(cell, seed, f"{seconds:.0f} s", {k: round(result[k], 4) for k in MEASURES}, flush=True)
    return result


def critic_at(run: Path, data_dir: str | None, results: Path = RESULTS) -> lf.Game:
    """The critic's model: trained where it is missing. Ends the program where finished cells had another one."""
    if not run.exists():
        where = ["--data-dir", data_dir] if data_dir else []
        run_outside(["train", *CRITIC.split(), "--data", "mnist", "--quiet", "--out", str(run), *where])
    model = lf.load(run)
    own = {
        fingerprint(model, a).hex() for a in (None, model.args, model.loaded_args)
    }  # older ones are of arguments too
    if {json.loads(f.read_text())["fingerprint"] for f in results.glob("*.json")} - own:
        sys.exit(
            f"finished cells in {results} were measured with another critic than that of {run}; give theirs with --critic"
        )
    return model


def table(results: Path = RESULTS) -> str:
    """Mean over the seeds, and their range."""
    lines = [
        "| loss | seeds | " + " | ".join(MEASURES.values()) + " | seconds |",
        "| --- | ---: |" + " ---: |" * (len(MEASURES) + 1),
    ]
    for cell in CELLS:
        rows = [json.loads(f.read_text()) for f in sorted(results.glob(f"{cell.replace(' ', '-')}-seed*.json"))]
        if rows:
            found = {k: [r[k] for r in rows] for k in MEASURES}
            shown = [f"{statistics.mean(v):.4g} ({min(v):.4g} to {max(v):.4g})" for v in found.values()]
            seconds = statistics.mean(r["seconds"] for r in rows)
            lines.append(f"| {cell} | {len(rows)} | " + " | ".join(shown) + f" | {seconds:.0f} |")
    if len(lines) == 2:
        return "Not measured yet: `python benchmarks/critic_loss.py` does."
    return "\n".join([*lines, "| the originals | | 0 | 1 | 0 | 0 | |"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--data-dir")
    parser.add_argument("--critic", type=Path, help="run of the critic; trained if it is not there")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    else:
        missing = [
            (cell, seed)
            for seed in options.seeds
            for cell in options.cells or CELLS
            if not (RESULTS / f"{cell.replace(' ', '-')}-seed{seed}.json").exists()
        ]
        if missing:
            with tempfile.TemporaryDirectory() as folder:
                judge = critic_at(options.critic or Path(folder) / "critic", options.data_dir)
                digits = lf.open_data("mnist", data_dir=options.data_dir)
            for cell, seed in missing:
                measure(cell, seed, digits, judge)
