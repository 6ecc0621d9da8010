"""What a trained model is worth at work: a line for each use with kept results, from the results of its own benchmark.

    python benchmarks/uses.py      # Markdown

The baseline is the best of those that need no model; the tables behind the links have the others, and where we are worse.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

import classify
import compress
import detect
import fewlabels
import finetune
import restore

HEAD = "| use | measured | Latentforge | without a model |\n| --- | --- | ---: | ---: |"


def lines() -> Iterator[tuple[str, str, str, str]]:
    """(page, what was measured, ours, the baseline's)."""
    sets = [("one", s, f"{s}: one class against nine, AUROC", 10) for s in detect.SETS]
    for protocol, name, what, whole in [
        *sets,
        ("xray", "pneumoniamnist", "chest X-rays: normal against pneumonia, AUROC", 1),
    ]:
        rows = detect.rows_of(protocol, name)
        if len(rows) == whole:
            found = {k: statistics.mean(r["auroc"][k] for r in rows) for k in ("detector", *detect.BASELINES)}
            best = max(detect.BASELINES, key=found.__getitem__)
            yield "detect", what, f"{found['detector']:.3f}", f"{found[best]:.3f} ({best})"
    for family in fewlabels.FAMILIES:
        if draws := fewlabels.kept(f"{family}/100"):
            ours = statistics.mean(r["test_error"] for r in draws)
            plain = {k: statistics.mean(r["baselines"][k] for r in draws) for k in fewlabels.BASELINES}
            best = min(plain, key=plain.__getitem__)
            what = f"mnist, `{family}` with 100 labels, error, mean of {len(draws)} choices of them"
            yield "few-labels", what, f"{ours:.2%}", f"{plain[best]:.1%} ({fewlabels.BASELINES[best]})"
    for cell in ("mnist/noise:0.5", "mnist/downsample:4", "cifar10/noise:0.2", "pneumoniamnist/noise:0.5"):
        if restore.kept(cell).exists():
            r = json.loads(restore.kept(cell).read_text())
            linear = f"{r['linear']['psnr']:.1f} dB (best linear)"
            yield "restore", f"{cell.replace('/', ', `')}`, PSNR", f"{r['restorer']['psnr']:.1f} dB", linear
    curves = {k: compress.at(r["points"], 0.1) for k, r in compress.kept("mnist", compress.RESULTS).items()}
    models = {k: v for k, v in curves.items() if k in compress.MODELS["mnist"] and v is not None}
    if models and curves.get("pca"):
        best = max(models, key=models.__getitem__)
        what = f"mnist, .1 bits per pixel, `{best}`, PSNR"
        yield "compress", what, f"{models[best]:.1f} dB", f"{curves['pca']:.1f} dB (PCA, same coder)"
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
