"""Every family on MNIST with its default settings and the same five minutes: one table.

    python benchmarks/zoo.py [CELL ...] [--data-dir DIR]   # train what is missing; finished cells are skipped
    python benchmarks/zoo.py --small                       # a few images each, to see that every cell works
    python benchmarks/zoo.py --table                       # the table of docs/results.md

A cell is a command of the tool. Its test numbers, and what a digit classifier that no model saw says of its samples, are
kept in benchmarks/results/zoo/CELL.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine

import latentforge as lf
from latentforge.cli import main
from latentforge.data import open_data
from latentforge.metrics.features import extractor
from latentforge.registry import KINDS, MODELS

RESULTS = Path(__file__).parent / "results" / "zoo"
CELLS = {name: name for name, v in MODELS.items() if v.kind != "restorer"} | {"cvae-prior": "cvae --sampler prior"}
SAMPLES = 10_000
SHOWN = {
    "coverage": "coverage", "density": "density", "frechet": "frechet", "reconstruction_mse": "error",
    "loss_nats": "nats", "codes-frechet": "codes",
}  # fmt: skip
LEGEND = """\
`coverage` and `density` (higher is better) and `frechet` (lower) compare 10,000 samples with the test images in 50 principal
components, so they do not compare with the `…-digits-10k` numbers of other pages. `error`: squared error per pixel of
reconstructions. `nats`: -ELBO per test image. `codes`: Fréchet distance between the codes of test images and those that
samples are drawn from. `rarest digit`: share of the rarest digit among samples (10 % is even). `as asked`: share of samples
that a classifier reads as the class asked for. Empty: the model has no such number."""


def measure(
    cell: str, data: str, budget: list[str], data_dir: str | None, results: Path = RESULTS, inside: bool = False
) -> dict[str, Any]:
    """Train one cell, evaluate it on the test set, keep the numbers. `inside` runs the commands in this process, which
    saves their start."""
    call = run_inside if inside else run_outside
    command = ["train", *CELLS[cell].split(), "--data", data, *budget]
    where = ["--data-dir", data_dir] if data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        began = time.monotonic()
        call([*command, "--quiet", "--out", run, *where])
        seconds = time.monotonic() - began
        call(["evaluate", run, "--metrics", "own,samples,codes", "--features", "pca50", "--repeats", "0"])
        metrics = json.loads((Path(run) / "metrics.json").read_text())
        model = lf.load(run)
        sizes = {k: sum(p.numel() for m in ms for p in m.parameters()) for k, ms in model.players().items()}
        result = {
            "cell": cell, "model": CELLS[cell].split()[0], "command": "latentforge " + " ".join(command), "seed": 0,
            "seconds": round(seconds, 1), "parameters": sizes, "training": metrics["training"], "test": metrics["test"],
            "digits": digits_of(model, data_dir) if data == "mnist" and model.can_sample else None, "machine": machine(),
        }  # fmt: skip
    keep_result(results / f"{cell}.json", result)
    numbers = {k: round(v["value"], 4) for k, v in metrics["test"].items()}
    print(cell, f"{seconds:.0f} s", numbers, result["digits"] or "", flush=True)
    return result


def digits_of(model: lf.Game, data_dir: str | None) -> dict[str, float | str]:
    """The share of the rarest and of the commonest digit in samples and, where a digit can be asked for, the share of
    samples that show it (equally many of each)."""
    judge = extractor("digits", open_data("mnist", data_dir=data_dir))
    found = judge.classify(model.sample(SAMPLES, seed=0).cpu()).argmax(1)
    share = torch.bincount(found, minlength=10) / SAMPLES
    out = {"rarest": float(share.min()), "commonest": float(share.max())}
    if model.condition is not None:
        asked = torch.arange(SAMPLES) % 10
        images = model.sample(SAMPLES, label=asked, seed=1).cpu()
        out["as_asked"] = float((judge.classify(images).argmax(1) == asked).double().mean())
    return {"judge": judge.about} | {k: round(v, 4) for k, v in out.items()}


def run_outside(arguments: list[str]) -> str:
    """What the command printed."""
    command = [sys.executable, "-m", "latentforge", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def run_inside(arguments: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    if code:
        raise SystemExit(f"latentforge {' '.join(arguments)}: exit code {code}")


def kept() -> dict[str, dict[str, Any]]:
    """The results there are, autoencoders first, hybrids last."""
    order = sorted(CELLS, key=lambda c: list(KINDS).index(MODELS[CELLS[c].split()[0]].kind))
    return {c: json.loads((RESULTS / f"{c}.json").read_text()) for c in order if (RESULTS / f"{c}.json").exists()}


def table(cells: dict[str, dict[str, Any]] | None = None, below: list[str] | None = None) -> str:
    """Markdown: one row per cell, with the trivial baselines and what real images score at the end, or the rows `below`."""
    cells = kept() if cells is None else cells
    if not cells:
        return "Not measured yet: `make zoo` does."
    lines = [
        "| `train …` | parameters | images seen | sampler | "
        + " | ".join(SHOWN.values())
        + " | rarest digit | as asked |",
        "| --- |" + " ---: |" * 2 + " --- |" + " ---: |" * (len(SHOWN) + 2),
    ]
    for cell, r in cells.items():
        values, sampler = dict.fromkeys(SHOWN, ""), ""
        for name, row in shown(r):
            values[name] = f"{row['value']:.4g}"
            sampler = row.get("sampler") or sampler
        found = r["digits"] or {}
        shares = [f"{100 * found[k]:.1f} %" if k in found else "" for k in ("rarest", "as_asked")]
        numbers = f"{sum(r['parameters'].values()):,} | {r['training']['examples']:,} | {sampler}"
        lines.append(f"| `{CELLS[cell]}` | {numbers} | " + " | ".join([*values.values(), *shares]) + " |")
    return "\n".join([*lines, *(below or ends(cells))])


def shown(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The measures of the table with their rows."""
    for measure_, row in result["test"].items():
        if name := next((k for k in SHOWN if measure_.startswith(k)), None):
            yield name, row


def ends(
    cells: dict[str, dict[str, Any]], wanted: tuple[str, ...] = ("baseline", "reference"), named: bool = True
) -> list[str]:
    """The rows of the trivial baselines and of real images. Some cells are older than today's baseline, whose samples are held
    against another: each has rows of its own, `named` by its cells."""
    groups: dict[str, tuple[list[str], dict[str, dict[str, str]]]] = {}
    for cell, r in cells.items():
        which = next((row["which"] for k, row in r["test"].items() if k.startswith("frechet") and "which" in row), "")
        names_of, found = groups.setdefault(which, ([], {end: {} for end in wanted}))
        names_of.append(f"`{CELLS[cell]}`")
        for name, row in shown(r):
            for end in wanted:
                if row.get(end) is not None and name not in ("codes-frechet", "reconstruction_mse"):
                    found[end][name] = f"{row[end]:.4g}"
    titles, lines = {"baseline": "trivial baseline", "reference": "real images; lower bound of the nats"}, []
    for which, (names_of, found) in groups.items():
        for end, values in found.items():
            what = f" ({which})" if which and end == "baseline" else ""
            what += f" of {', '.join(names_of)}" if named and len(groups) > 1 else ""
            if values:
                row = " | ".join(values.get(k, "") for k in SHOWN)
                lines.append(f"| {titles[end]}{what} | | | | {row} | | |")
    return lines


def page(model: str) -> str:
    """The rows of one family, for its page, above the baselines of all cells (these depend on the data alone), and what the
    columns mean."""
    cells = {c: r for c, r in kept().items() if r["model"] == model}
    below = ends(kept(), ("baseline",), named=False) + ends(cells, ("reference",))
    return f"{table(cells, below)}\n\n{' '.join(LEGEND.split())}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help="names of cells; all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    else:
        for name in options.cells or CELLS:
            if options.small:
                with tempfile.TemporaryDirectory() as place:
                    measure(name, "mnist-5k", ["--examples", "640"], None, Path(place), inside=True)
            elif not (RESULTS / f"{name}.json").exists():
                measure(name, "mnist", ["--minutes", "5"], options.data_dir)
