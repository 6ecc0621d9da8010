"""What a trained model is worth at work: a line for each use with kept results, from the results of its own benchmark.

    python benchmarks/uses.py      # Markdown

The baseline is the one that needs no model; the tables behind the links have the others, and where we are worse.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

import classify
import detect
import fewlabels
import finetune
import restore

HEAD = "| use | measured | Latentforge | without a model |\n| --- | --- | ---: | ---: |"


def lines() -> Iterator[tuple[str, str, str, str]]:
    """(page, what was measured, ours, the baseline's)."""
    for name in detect.SETS:
        rows = detect.rows_of("one", name)
        if len(rows) == 10:
            ours, pca = (statistics.mean(r["auroc"][k] for r in rows) for k in ("detector", "PCA-32"))
            yield "detect", f"{name}: one class against nine, AUROC", f"{ours:.3f}", f"{pca:.3f} (PCA)"
    for r in detect.rows_of("xray", "pneumoniamnist"):
        forest = f"{r['auroc']['isolation forest']:.3f} (isolation forest)"
        yield "detect", "chest X-rays: normal against pneumonia, AUROC", f"{r['auroc']['detector']:.3f}", forest
    for family in fewlabels.FAMILIES:
        draws = fewlabels.kept(f"{family}/100")
        if draws:
            ours = 100 * statistics.mean(r["test_error"] for r in draws)
            nearest = 100 * statistics.mean(r["baselines"]["1-nn"] for r in draws)
            what = f"mnist, `{family}` with 100 labels, error, mean of {len(draws)} choices of them"
            yield "few-labels", what, f"{ours:.2f} %", f"{nearest:.1f} % (1-NN)"
    for cell in ("mnist/noise:0.5", "mnist/downsample:4", "cifar10/noise:0.2"):
        if restore.kept(cell).exists():
            r = json.loads(restore.kept(cell).read_text())
            linear = f"{r['linear']['psnr']:.1f} dB (best linear)"
            yield "restore", f"{cell.replace('/', ', `')}`, PSNR", f"{r['restorer']['psnr']:.1f} dB", linear
    for cell, plain in (("mnist/cvae", "mnist/gaussian"), ("fashion-mnist/cvae", "fashion-mnist/gaussian")):
        if classify.path(cell).exists() and classify.path(plain).exists():
            ours, gauss = (json.loads(classify.path(c).read_text())["accuracy"] for c in (cell, plain))
            what = f"{cell.split('/')[0]}: accuracy of Bayes' rule"
            yield "classify", what, f"{ours:.1%}", f"{gauss:.1%} (Gaussian per class)"
    for cell in finetune.CELLS:
        file = finetune.RESULTS / f"{cell}.json"
        for row in json.loads(file.read_text())["rows"][:1] if file.exists() else []:
            what = f"mnist, {cell.replace('-', ' ')} as the start of a classifier, {row['labels']} labels, error"
            yield "finetune", what, f"{row['pretrained']:.1%}", f"{row['random']:.1%} (random weights)"


def table(folder: str = "docs/tasks") -> str:
    rows = [f"| [{page}]({folder}/{page}.md) | {what} | {ours} | {plain} |" for page, what, ours, plain in lines()]
    return "\n".join([HEAD, *rows])


if __name__ == "__main__":
    print(table())
