"""Detection of images unlike those trained on, with one setting for all sets: that of `lf.AnomalyDetector()`.

    python benchmarks/detect.py [CELL ...] [--data-dir DIR]   # measure what is missing
    python benchmarks/detect.py --table                       # Markdown
    python benchmarks/detect.py --small                       # next to no training, on validation images, kept nowhere

A cell is PROTOCOL/SET/CLASS: `one` trains on one class and calls the other nine anomalous, `out` trains on nine and calls the
one anomalous, `xray` trains on normal chest X-rays. Training images are those of the set without the validation images; all
test images are scored once, by the detector, by each score that its model can give, and by baselines that train no model of
ours. Numbers are areas under the receiver operating characteristic (AUROC) and average precisions, anomalies as positives.
Kept in benchmarks/results/detect/PROTOCOL/SET-CLASS.json. Without cells, one-class and X-rays come first.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import keep_result, machine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

import latentforge as lf
from latentforge.data import Images
from latentforge.tasks.detect import Detector
from latentforge.tasks.scores import SCORES

RESULTS = Path(__file__).parent / "results" / "detect"
SETS = ("mnist", "fashion-mnist")
XRAY = "xray/pneumoniamnist/0"
CELLS = [f"one/{s}/{k}" for s in SETS for k in range(10)] + [XRAY] + [f"out/{s}/{k}" for s in SETS for k in range(10)]
SEED = 0
COMPONENTS = 32
BASELINES = ("PCA-32", "isolation forest")
LIMIT = 20_000  # images that the baselines are fitted on


def normal_and_test(cell: str, data_dir: str | None, split: str) -> tuple[np.ndarray, Images, np.ndarray]:
    """Normal training pixels (N, H, W) uint8, test images, and which of these are anomalous (M,)."""
    protocol, name, label = cell.split("/")
    source: Any = Path(data_dir or ".") / name / f"{name}.npz" if protocol == "xray" else name
    data = lf.open_data(source, data_dir=data_dir)
    assert data.train.labels is not None
    test = getattr(data, split)
    is_class, test_is = data.train.labels == int(label), (test.labels == int(label)).numpy()
    normal, anomalous = (~is_class, test_is) if protocol == "out" else (is_class, ~test_is)
    return data.train.pixels[normal][:, 0].numpy(), test, anomalous


def baselines(normal: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of what needs no model of ours, (M,) each, from rows of pixels in [0, 1]."""
    x = normal[:: -(-len(normal) // LIMIT)]
    pca = PCA(min(COMPONENTS, len(x) - 1), random_state=0).fit(x)
    forest = IsolationForest(random_state=0).fit(x)
    rebuilt = pca.inverse_transform(pca.transform(test))
    return dict(zip(BASELINES, (np.square(test - rebuilt).mean(1), -forest.score_samples(test)), strict=True))


def measure(cell: str, data_dir: str | None, split: str = "test", **setting: Any) -> dict[str, Any]:
    normal, test, anomalous = normal_and_test(cell, data_dir, split)
    began = time.monotonic()
    detector = lf.AnomalyDetector(random_state=SEED, **setting).fit(normal)
    trained = time.monotonic() - began
    parts = detector.detector_.parts(test)
    scores = {"detector": detector.detector_.combine(parts).numpy(), **{k: v.numpy() for k, v in parts.items()}}
    rest = [k for k, s in SCORES.items() if k not in parts and not s.lacks(detector.model_)]
    alone = Detector(detector.model_, Images(torch.from_numpy(normal)[:, None]), score=rest).raw(test)
    scores |= {k: v.numpy() for k, v in alone.items()}
    flat = test.pixels.flatten(1).numpy() / 255
    scores |= baselines(normal.reshape(len(normal), -1) / 255, flat)
    return {
        "command": f"python benchmarks/detect.py {cell}", "seed": SEED, "setting": setting,
        "scores": detector.detector_.names, "model": detector.model, "seconds": round(trained, 1),
        "seconds_in_all": round(time.monotonic() - began, 1), "normal": len(normal), "test": len(test),
        "anomalous": int(anomalous.sum()),
        "auroc": {k: round(float(roc_auc_score(anomalous, v)), 5) for k, v in scores.items()},
        "average_precision": {k: round(float(average_precision_score(anomalous, v)), 5) for k, v in scores.items()},
        "called_anomalous": {
            "normal": float((scores["detector"][~anomalous] > detector.threshold_).mean()),
            "anomalous": float((scores["detector"][anomalous] > detector.threshold_).mean()),
        },
        "machine": machine(),
    }  # fmt: skip


def kept(cell: str) -> Path:
    protocol, name, label = cell.split("/")
    return RESULTS / protocol / f"{name}-{label}.json"


def rows_of(protocol: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(kept(c).read_text()) for c in CELLS if c.startswith(f"{protocol}/{name}/") and kept(c).exists()]


TITLES = {
    "one": "One class normal, nine anomalous: AUROC, mean over classes (worst class)",
    "out": "Nine classes normal, one anomalous: AUROC, mean over classes (worst class)",
    "xray": "Normal chest X-rays against pneumonia: AUROC",
}


def table() -> str:
    """Markdown: a table for each protocol with finished cells."""
    parts = []
    for protocol, title in TITLES.items():
        found = {s: r for s in (*SETS, "pneumoniamnist") if (r := rows_of(protocol, s))}
        if not found:
            parts.append(f"{title}: not measured yet, `make detect` does.")
            continue
        heads = [f"{s}, {len(r)} of {sum(c.startswith(f'{protocol}/{s}/') for c in CELLS)}" for s, r in found.items()]
        lines = [f"{title}", "", f"| score | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(found)]
        for score in dict.fromkeys(k for rows in found.values() for r in rows for k in r["auroc"]):
            cells = []
            for rows in found.values():
                values = [r["auroc"][score] for r in rows if score in r["auroc"]]
                one = (
                    f"{values[0]:.3f}"
                    if len(values) == 1
                    else f"{np.mean(values):.3f} ({min(values):.3f})"
                    if values
                    else ""
                )
                cells.append(f"**{one}**" if score == "detector" else one)
            shown = {"detector": "**the detector**"}.get(score, f"`{score}`" if score in SCORES else score)
            lines.append(f"| {shown} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="such as one/mnist/3 or one/mnist; all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    for cell in [] if options.table else CELLS:
        if options.cells and not any(cell == c or cell.startswith(f"{c}/") for c in options.cells):
            continue
        if cell == XRAY and not (Path(options.data_dir or ".") / "pneumoniamnist" / "pneumoniamnist.npz").exists():
            print(f"{cell} needs pneumoniamnist/pneumoniamnist.npz of MedMNIST v2 in --data-dir; left out", flush=True)
            continue
        if options.small:
            print(json.dumps(measure(cell, options.data_dir, "validation", examples=256)["auroc"]))
        elif not kept(cell).exists():
            result = measure(cell, options.data_dir)
            keep_result(kept(cell), result)
            print(cell, f"{result['seconds_in_all']:.0f} s", result["auroc"], flush=True)
