"""Classes from few labels: MNIST with 100 and with 20 labels, five choices of which, eight minutes each on one thread.

    python benchmarks/fewlabels.py [CELL ...] [--draws 0 1 2 3 4] [--data-dir DIR]   # measure what is missing
    python benchmarks/fewlabels.py --table                                           # Markdown
    python benchmarks/fewlabels.py --small --data-dir DIR                            # next to no training, kept nowhere

A cell is a family's default, or one of its variations, at a number of labels. Draw D keeps the labels that --labels-seed D
chooses and has seed D. Test images are looked at once per draw, and so are the baselines, which get the same labels: 1-NN on 50
principal components, logistic regression on pixels, and label spreading on the components with 10,000 of the unlabelled images.
Kept in benchmarks/results/fewlabels/LABELS/CELL-drawD.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import keep_result, machine, where
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import LabelSpreading
from zoo import run_inside

from latentforge.data import open_data

RESULTS = Path(__file__).parent / "results" / "fewlabels"
LABELS = (100, 20)
BUDGET = ["--minutes", "8"]
SPREAD = 10_000  # unlabelled images that labels are spread over
FAMILIES = ("ssl-vae", "ssl-gan", "ssl-vae-gan")
PAPER = "--smooth 0 --shift 0 --certain 0 --balance 0"
VARIATIONS = {  # without one thing, and the papers' own objectives, at 100 labels
    "unmoved": "ssl-gan --shift 0",
    "critic-alone": "ssl-gan --matching 0",
    "classifier-alone": "ssl-vae --generative 0",
    "m1+m2": f"ssl-vae --form m1+m2 {PAPER} --generative 10",
    "m2": f"ssl-vae {PAPER} --generative 10",
    "feature-matching": f"ssl-gan {PAPER} --net mlp --lr 3e-3",
}
BASELINES = {
    "1-nn": "1-NN on PCA-50",
    "logistic": "logistic regression",
    "spreading": f"label spreading on PCA-50 of {SPREAD:,} images",
}
CELLS = [f"{name}/{n}" for n in LABELS for name in FAMILIES] + [f"{name}/100" for name in VARIATIONS]


def baselines(labels: int, draw: int, data_dir: str | None) -> dict[str, float]:
    """Test errors of what needs no training of ours, from the same labels."""
    data = open_data("mnist", data_dir=data_dir, labels=labels, labels_seed=draw)
    known, test = data.train.labelled(), data.test
    assert known.labels is not None
    assert test.labels is not None
    x, y, t, truth = *rows(known), *rows(test)
    rest = data.train.pixels[data.train.spread(SPREAD)].flatten(1).numpy() / 255
    pca = PCA(50, random_state=0).fit(rest)
    nearest = KNeighborsClassifier(1).fit(pca.transform(x), y)
    logistic = LogisticRegression(max_iter=1000).fit(x, y)
    mixed, marks = np.concatenate([pca.transform(x), pca.transform(rest)]), np.concatenate([y, np.full(len(rest), -1)])
    spreading = LabelSpreading(kernel="knn", n_neighbors=10).fit(mixed, marks)
    found = {"1-nn": nearest.predict(pca.transform(t)), "logistic": logistic.predict(t),
             "spreading": spreading.predict(pca.transform(t))}  # fmt: skip
    return {k: round(float((v != truth).mean()), 5) for k, v in found.items()}


def rows(images: Any) -> tuple[np.ndarray, np.ndarray]:
    return images.pixels.flatten(1).numpy() / 255, images.labels.numpy()


def measure(cell: str, draw: int, data_dir: str | None, budget: list[str]) -> dict[str, Any]:
    name, labels = cell.split("/")
    command = ["train", *VARIATIONS.get(name, name).split(), "--data", "mnist", "--labels", labels,
               "--labels-seed", str(draw), "--seed", str(draw), *budget]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        began = time.monotonic()
        run_inside([*command, "--quiet", "--out", run, *(["--data-dir", data_dir] if data_dir else [])])
        seconds = time.monotonic() - began
        run_inside(["evaluate", run, "--metrics", "own", "--repeats", "0"])
        metrics = json.loads((Path(run) / "metrics.json").read_text())
        stats = [json.loads(line) for line in (Path(run) / "stats.jsonl").read_text().splitlines()]
    validation = [r["validation/error"] for r in stats if "validation/error" in r]
    return {
        "cell": cell, "draw": draw, "seed": draw, "command": "latentforge " + " ".join(command), "seconds": round(seconds, 1),
        "training": metrics["training"], "test_error": metrics["test"]["error"]["value"],
        "validation_error": validation[-1] if validation else None,
        "baselines": baselines(int(labels), draw, data_dir), "machine": machine(),
    }  # fmt: skip


def file_of(cell: str, draw: int) -> Path:
    name, labels = cell.split("/")
    return RESULTS / labels / f"{name}-draw{draw}.json"


def kept(cell: str) -> list[dict[str, Any]]:
    name, labels = cell.split("/")
    return [json.loads(f.read_text()) for f in sorted((RESULTS / labels).glob(f"{name}-draw*.json"))]


def shown(errors: list[float]) -> str:
    """Mean, standard deviation and range of errors, in percent."""
    percent = [100 * e for e in errors]
    spread = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
    return f"{statistics.mean(percent):.2f}{spread} ({min(percent):.2f} to {max(percent):.2f})"


def table() -> str:
    found = {cell: r for cell in CELLS if (r := kept(cell))}
    if not found:
        return "Not measured yet: `python benchmarks/fewlabels.py` does."
    lines = [
        "| labels | `train …` | draws | test error, %: mean ± sd (range) | images drawn | minutes |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for cell, results in found.items():
        name, labels = cell.split("/")
        seen = statistics.mean(r["training"]["examples"] for r in results)
        minutes = statistics.mean(r["seconds"] for r in results) / 60
        lines.append(
            f"| {labels} | `{VARIATIONS.get(name, name)}` | {len(results)} | {shown([r['test_error'] for r in results])} | "
            f"{seen:,.0f} | {minutes:.1f} |"
        )
    for labels in LABELS:
        draws = {r["draw"]: r for cell, results in found.items() if cell.endswith(f"/{labels}") for r in results}
        for name, title in BASELINES.items() if draws else ():
            errors = [r["baselines"][name] for r in draws.values()]
            lines.append(f"| {labels} | {title} | {len(errors)} | {shown(errors)} | | |")
    return "\n".join(lines) + where({f"`{c}`": [r["machine"] for r in results] for c, results in found.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--draws", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--data-dir")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    torch.set_num_threads(1)
    for draw in options.draws:
        for cell in options.cells or CELLS:
            file = file_of(cell, draw)
            if file.exists() and not options.small:
                continue
            result = measure(cell, draw, options.data_dir, ["--examples", "500"] if options.small else BUDGET)
            print(cell, draw, f"{result['seconds']:.0f} s", result["test_error"], result["baselines"], flush=True)
            if not options.small:
                keep_result(file, result)


if __name__ == "__main__":
    main()
