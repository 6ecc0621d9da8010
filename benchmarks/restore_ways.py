"""Two more ways to restore: what `--similarity` buys and what it costs, and a search through a decoder that was trained for
nothing but itself.

    python benchmarks/restore_ways.py [CELL ...] [--data-dir DIR]   # train and measure what is missing
    python benchmarks/restore_ways.py --table                       # Markdown
    python benchmarks/restore_ways.py --small                       # next to no training, kept nowhere

likeness/SIMILARITY trains a restorer of CIFAR-10 under downsample:2 for five minutes and restores 2,000 test images.
Sharpness is the mean steepness between neighbouring pixels over that of the originals. search/MODEL asks a MODEL that was
trained on MNIST for five minutes about 500 test images under three operators, beside the linear estimator on the same. Kept
in benchmarks/results/restore_ways/CELL.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from critic_loss import steepness
from machine import keep_result, machine
from restore import ALL, Linear, baselines, numbers, trained

import latentforge as lf
from latentforge.parts.operators import parse

RESULTS = Path(__file__).parent / "results" / "restore_ways"
SIMILARITIES = ("pixel", "critic", "style", "adversarial")
LIKENESS = ("cifar10", "downsample:2")
MODELS, OPERATORS = ("vae", "vae-gan"), ("noise:0.5", "downsample:4", "hole:14")
SEARCHED, MINUTES = 500, 5
CELLS = [f"likeness/{s}" for s in SIMILARITIES] + [f"search/{m}" for m in MODELS]


def kept(cell: str) -> Path:
    return RESULTS / f"{cell.replace('/', '-')}.json"


def likeness(cell: str, data_dir: str | None, budget: list[str]) -> dict[str, Any]:
    name, text = LIKENESS
    data = lf.open_data(name, data_dir=data_dir)
    command = ["train", "restorer", "--task", ALL[text], "--operator", text, "--data", name, *budget]
    model, result = trained([*command, "--similarity", cell.split("/")[1]], data_dir)
    linear = Linear(data)
    out, original, seen = baselines(data, linear, parse(text))
    found = lf.restore(model, seen)
    out["linear"]["sharpness"] = steepness(linear(parse(text), seen)) / steepness(original)
    ours = numbers(found, original, None) | {"sharpness": steepness(found) / steepness(original)}
    return {**result, "images": len(original), **out, "restorer": ours, "machine": machine()}


def search(cell: str, data_dir: str | None, budget: list[str], tested: int = SEARCHED) -> dict[str, Any]:
    name = cell.split("/")[1]
    data = lf.open_data("mnist", data_dir=data_dir)
    model, result = trained(["train", name, "--data", "mnist", *budget], data_dir)
    linear, rows = Linear(data), {}
    for text in OPERATORS:
        operator = parse(text)
        out, original, seen = baselines(data, linear, operator, tested)
        began = time.monotonic()
        found = lf.restore(model, seen, operator)
        taken = (time.monotonic() - began) / len(original)
        missing = 1 - seen[:, -1:] if operator.masks else None
        rows[text] = {**out, "search": numbers(found, original, missing), "seconds_per_image": round(taken, 3)}
    return {**result, "images": tested, "operators": rows, "machine": machine()}


def table() -> str:
    """Markdown: a table of each of the two with finished cells."""
    found = {c: json.loads(kept(c).read_text()) for c in CELLS if kept(c).exists()}
    alike = {c.split("/")[1]: r for c, r in found.items() if c.startswith("likeness")}
    parts = []
    if alike:
        lines = [
            "| `--similarity`, CIFAR-10 under `downsample:2` | PSNR | SSIM | sharpness |",
            "| --- | ---: | ---: | ---: |",
        ]
        rows = {f"`{k}`": r["restorer"] for k, r in alike.items()}
        rows |= {"linear": next(iter(alike.values()))["linear"]}
        lines += [f"| {k} | {r['psnr']:.2f} | {r['ssim']:.3f} | {r['sharpness']:.2f} |" for k, r in rows.items()]
        parts.append("\n".join(lines))
    searched = {c.split("/")[1]: r for c, r in found.items() if c.startswith("search")}
    if searched:
        lines = [
            "| model, degradation of MNIST | PSNR degraded | linear | **search** | missing pixels, squared error: linear "
            "| **search** | seconds per image |",
            "| --- |" + " ---: |" * 6,
        ]
        for name, text, r in ((n, o, r) for n, kept in searched.items() for o, r in kept["operators"].items()):
            row = [f"{r['spoilt']['psnr']:.2f}", f"{r['linear']['psnr']:.2f}", f"**{r['search']['psnr']:.2f}**"]
            ours = r["search"]
            row += [f"{r['linear']['inside']:.4f}", f"**{ours['inside']:.4f}**"] if "inside" in ours else ["", ""]
            lines.append(f"| `{name}`, `{text}` | {' | '.join(row)} | {r['seconds_per_image']:.2f} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "Not measured yet: `python benchmarks/restore_ways.py` does."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="such as likeness/style or search; all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    budget = ["--examples", "640"] if options.small else ["--minutes", str(MINUTES)]
    for cell in CELLS:
        asked = not options.cells or any(cell == c or cell.startswith(f"{c}/") for c in options.cells)
        if not asked or (kept(cell).exists() and not options.small):
            continue
        if cell.startswith("likeness"):
            result = likeness(cell, options.data_dir, budget)
        else:
            result = search(cell, options.data_dir, budget, 32 if options.small else SEARCHED)
        print(cell, f"{result['seconds']:.0f} s", result.get("restorer") or result["operators"], flush=True)
        if not options.small:
            keep_result(kept(cell), result)


if __name__ == "__main__":
    main()
