"""What a trained model is worth at work: a line for each use with kept results, from the results of its own benchmark.

    python benchmarks/uses.py      # Markdown

The baseline is the best of those that need no model of ours; the tables behind the links have the others, and where we are
worse.
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

COMPRESSOR = "vae-32"  # one model for all rates; the best of several on the test images would be one chosen by them
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
    curves = {k: r["points"] for k, r in compress.kept("mnist", compress.RESULTS).items() if k in (COMPRESSOR, "pca")}
    for rate in compress.RATES["mnist"] if len(curves) == 2 else ():
        ours, plain = (compress.at(curves[k], rate) for k in (COMPRESSOR, "pca"))
        if ours is not None and plain is not None:
            what = f"mnist, {rate:g} bits per pixel, `{COMPRESSOR}`, PSNR"
            yield "compress", what, f"{ours:.1f} dB", f"{plain:.1f} dB (PCA, same coder)"
    for name in classify.OTHER:
        files = {m: classify.path(f"{name}/{m}") for m in ("cvae", *classify.BASELINES)}
        accuracy = {m: json.loads(f.read_text())["accuracy"] for m, f in files.items() if f.exists()}
        if "cvae" in accuracy and len(accuracy) > 1:
            best = max((m for m in classify.BASELINES if m in accuracy), key=accuracy.__getitem__)
            what = f"{name}: accuracy of Bayes' rule"
            yield "classify", what, f"{accuracy['cvae']:.1%}", f"{accuracy[best]:.1%} ({classify.BASELINES[best]})"
    for cell in finetune.CELLS:
        file = finetune.RESULTS / f"{cell}.json"
        for row in json.loads(file.read_text())["rows"][:1] if file.exists() else []:
            family, part = finetune.CELLS[cell][0].split()[0], finetune.CELLS[cell][1]
            what = f"mnist, {part} of `{family}` as the start of a classifier, {row['labels']} labels, error"
            plain = {"random weights": row["random"]} | from_labels_alone(row["labels"])
            best = min(plain, key=plain.__getitem__)
            yield "finetune", what, f"{row['pretrained']:.1%}", f"{plain[best]:.1%} ({best})"


def from_labels_alone(labels: int) -> dict[str, float]:
    """Mean test error of each baseline of `fewlabels` at so many labels of mnist, over the choices of them that are kept: the
    same labels that `finetune` draws."""
    draws = {r["draw"]: r["baselines"] for f in fewlabels.FAMILIES for r in fewlabels.kept(f"{f}/{labels}")}
    return {what: statistics.mean(b[k] for b in draws.values()) for k, what in fewlabels.BASELINES.items() if draws}


def table(folder: str = "docs/tasks") -> str:
    rows = [f"| [{page}]({folder}/{page}.md) | {what} | {ours} | {plain} |" for page, what, ours, plain in lines()]
    return "\n".join([HEAD, *rows])


if __name__ == "__main__":
    print(table())
