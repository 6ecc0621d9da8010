"""What a trained model is worth at work: a line for each use with kept results, from the results of its own benchmark.

    python benchmarks/uses.py      # Markdown

The baseline is the best of those that need no model of ours; the tables behind the links have the others. The better of the
two is in bold.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import classify
import compress
import detect
import fewlabels
import finetune
import restore

# one model for all rates; the best of several on the test images would be one chosen by them
COMPRESSORS = {"mnist": "vae-32", "cifar10": "vae-128"}
PLAIN = {"pixels": "nearest images in pixels"} | {b: b for b in detect.BASELINES}  # the detector's own score in pixels
HEAD = "| use | measured | better | Latentforge | best simple baseline |\n| --- | --- | --- | ---: | ---: |"


class Use(NamedTuple):
    """One row: its page, what was measured, how a number is shown, ours, and the best baseline's with its name."""

    page: str
    measured: str
    better: str  # higher or lower
    form: str
    ours: float
    plain: float
    baseline: str

    def row(self, folder: str) -> str:
        ours, plain = self.form.format(self.ours), self.form.format(self.plain)
        if ours != plain:
            wins = (self.ours > self.plain) == (self.better == "higher")
            ours, plain = (f"**{ours}**", plain) if wins else (ours, f"**{plain}**")
        page = f"[{self.page}]({folder}/{self.page}.md)"
        return f"| {page} | {self.measured} | {self.better} | {ours} | {plain} ({self.baseline}) |"


def lines() -> Iterator[Use]:
    sets = [("one", s, f"{s}: one class normal, nine anomalous, AUROC", 10) for s in detect.SETS]
    sets += [("out", s, f"{s}: nine classes normal, one anomalous, AUROC", 10) for s in detect.SETS]
    for protocol, name, what, whole in [
        *sets,
        ("xray", "pneumoniamnist", "chest X-rays: normal against pneumonia, AUROC", 1),
    ]:
        rows = detect.rows_of(protocol, name)
        if len(rows) == whole:
            found = {k: statistics.mean(r["auroc"][k] for r in rows) for k in ("detector", *PLAIN)}
            best = max(PLAIN, key=found.__getitem__)
            yield Use("detect", what, "higher", "{:.3f}", found["detector"], found[best], PLAIN[best])
    for family in fewlabels.FAMILIES:
        if draws := fewlabels.kept(f"{family}/100"):
            ours = statistics.mean(r["test_error"] for r in draws)
            plain = {k: statistics.mean(r["baselines"][k] for r in draws) for k in fewlabels.BASELINES}
            best = min(plain, key=plain.__getitem__)
            what = f"mnist, `{family}` with 100 labels, error, mean of {len(draws)} choices of them"
            yield Use("few-labels", what, "lower", "{:.2%}", ours, plain[best], fewlabels.BASELINES[best])
    for cell in ("mnist/noise:0.5", "mnist/downsample:4", "cifar10/noise:0.2", "pneumoniamnist/noise:0.5"):
        if restore.kept(cell).exists():
            r = json.loads(restore.kept(cell).read_text())
            ours, linear = r["restorer"]["psnr"], r["linear"]["psnr"]
            yield Use(
                "restore", f"{cell.replace('/', ', `')}`, PSNR", "higher", "{:.1f} dB", ours, linear, "best linear"
            )
    for name, model in COMPRESSORS.items():
        curves = {k: r["points"] for k, r in compress.kept(name, compress.RESULTS).items() if k in (model, "pca")}
        for rate in compress.RATES[name][::2] if len(curves) == 2 else ():  # the page has all
            ours, plain = (compress.at(curves[k], rate) for k in (model, "pca"))
            if ours is not None and plain is not None:
                what = f"{name}, {rate:g} bits per pixel, `{model}`, PSNR"
                yield Use("compress", what, "higher", "{:.1f} dB", ours, plain, "PCA, same coder")
    for name in classify.OTHER:
        files = {m: classify.path(f"{name}/{m}") for m in ("cvae", *classify.BASELINES)}
        accuracy = {m: json.loads(f.read_text())["accuracy"] for m, f in files.items() if f.exists()}
        if "cvae" in accuracy and len(accuracy) > 1:
            best = max((m for m in classify.BASELINES if m in accuracy), key=accuracy.__getitem__)
            what = f"{name}: accuracy of Bayes' rule"
            ours, plain = accuracy["cvae"], accuracy[best]
            yield Use("classify", what, "higher", "{:.1%}", ours, plain, classify.BASELINES[best])
    for cell in finetune.CELLS:
        file = finetune.RESULTS / f"{cell}.json"
        for row in json.loads(file.read_text())["rows"][:1] if file.exists() else []:
            family, part = finetune.CELLS[cell][0].split()[0], finetune.CELLS[cell][1]
            what = f"mnist, {part} of `{family}` as the start of a classifier, {row['labels']} labels, error"
            plain = {"random weights": row["random"]} | from_labels_alone(row["labels"])
            best = min(plain, key=plain.__getitem__)
            yield Use("finetune", what, "lower", "{:.1%}", row["pretrained"], plain[best], best)


def from_labels_alone(labels: int) -> dict[str, float]:
    """Mean test error of each baseline of `fewlabels` at so many labels of mnist, over the choices of them that are kept: the
    same labels that `finetune` draws."""
    draws = {r["draw"]: r["baselines"] for f in fewlabels.FAMILIES for r in fewlabels.kept(f"{f}/{labels}")}
    return {what: statistics.mean(b[k] for b in draws.values()) for k, what in fewlabels.BASELINES.items() if draws}


def table(folder: str = "docs/tasks") -> str:
    return "\n".join([HEAD, *(use.row(folder) for use in lines())])


if __name__ == "__main__":
    print(table())
