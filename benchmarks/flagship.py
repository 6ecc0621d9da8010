"""The hybrid beside its parents and the other families, with the same wall-clock budget on two idle cores.

    python benchmarks/flagship.py [TABLE[/CELL] ...] [--data-dir DIR] [--runs DIR]   # train what is missing
    python benchmarks/flagship.py TABLE/CELL --runs DIR --again          # measure runs that were kept in DIR anew
    python benchmarks/flagship.py --table mnist-5                                    # Markdown

Every cell is a command of the tool, evaluated alike on the test set in the named features, which enter no training. (The
defaults of `vae-gan` were chosen by trials on training and validation images, looked at in features of digits.) Its numbers
are kept in benchmarks/results/flagship/TABLE/CELL-SEED.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from machine import keep_result, machine, where
from zoo import run_outside

import latentforge as lf
from latentforge.run import Run

RESULTS = Path(__file__).parent / "results" / "flagship"
PARENTS = {"vae-gan": "vae-gan", "vae": "vae", "vae-gmm": "vae --sampler gmm", "dcgan": "dcgan"}
RIVALS = {"larsen-vae-gan": "larsen-vae-gan", "wgan-gp": "wgan-gp", "r3gan": "r3gan", "aae": "aae", "gan": "gan"}
TWIN = {"twin": "vae-gan --share 1"}  # the same encoder, decoder and code size, a plain VAE to the end
# each row takes one ingredient away from the defaults, or puts one back that they have dropped
ABLATION = {
    "whole": "vae-gan", "no-likelihood": "vae-gan --pixel 0", "no-first-stage": "vae-gan --share 0.02",
    "prior": "vae-gan --sampler prior", "constant-rate": "vae-gan --schedule constant", "narrow": "vae-gan --wide ,",
    "no-average": "vae-gan --ema 0", "no-stretch": "vae-gan --stretch 0",
    "nonsaturating": "vae-gan --loss nonsaturating", "penalties": "vae-gan --r1 .003 --r2 .003",
    "sampler": "vae-gan --mix .3",
}  # fmt: skip
# the same of the recipe before decision 78, which follows from this
CRITIC, CODES = "--r1 .003 --r2 .003", "--mix .3"
WHOLE = f"vae-gan {CRITIC} {CODES}"
BEFORE = {
    "whole": WHOLE, "no-likelihood": f"{WHOLE} --pixel 0", "no-sampler": f"vae-gan {CRITIC} --mix 1",
    "sampler-alone": f"vae-gan {CRITIC} --mix 0", "prior": f"{WHOLE} --sampler prior", "no-penalty": f"vae-gan {CODES}",
    "nonsaturating": f"{WHOLE} --loss nonsaturating", "no-first-stage": f"{WHOLE} --share 0.02",
    "no-average": f"{WHOLE} --ema 0", "constant-rate": f"{WHOLE} --schedule constant", "narrow": f"{WHOLE} --wide ,",
    "no-stretch": f"{WHOLE} --stretch 0",
}  # fmt: skip


class Table(NamedTuple):
    """Cells that share data, budget and features; the seeds of those that have more than one."""

    data: str
    minutes: float
    features: str
    cells: dict[str, str]
    seeds: dict[str, int]


THREE = {"vae-gan": 3, "vae": 3, "dcgan": 3}
TABLES = {
    "mnist-5": Table("mnist", 5, "digits", PARENTS | TWIN | RIVALS, THREE),
    "mnist-20": Table("mnist", 20, "digits", {"vae-gan": "vae-gan"}, {}),
    "fashion-10": Table("fashion-mnist", 10, "labels", PARENTS | TWIN | RIVALS, {}),
    "cifar10-20": Table("cifar10", 20, "labels", PARENTS, {"vae-gan": 2, "dcgan": 2}),
    "emoji-20": Table("emoji", 20, "self", PARENTS, {}),
    "ablation": Table("mnist", 5, "digits", ABLATION, {}),
    "ablation-before": Table("mnist", 5, "digits", BEFORE, {}),
}
SHOWN = ("frechet", "kernel", "coverage", "density", "memorisation", "reconstruction_mse")


def jobs(name: str) -> list[tuple[str, int]]:
    """Every cell with every seed, the first seed of all first."""
    t = TABLES[name]
    return sorted(((c, s) for c in t.cells for s in range(t.seeds.get(c, 1))), key=lambda job: job[1])


def file(name: str, cell: str, seed: int) -> Path:
    return RESULTS / name / f"{cell}-{seed}.json"


def measure(name: str, cell: str, seed: int, data_dir: str | None, runs: str | None) -> None:
    """Train one cell, evaluate it on the test set, keep the numbers, and the run itself in the folder `runs`. The prior's
    VAE is measured with a mixture as well, which is `vae-gmm` but for the seconds of its fit."""
    t = TABLES[name]
    found_at = ["--data-dir", data_dir] if data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(runs or folder) / f"{name}-{cell}-{seed}")
        source = str(Path(data_dir or "") / t.data) if t.data == "emoji" else t.data
        budget = ["--minutes", f"{t.minutes:g}", "--seed", str(seed)]
        command = ["train", *t.cells[cell].split(), "--data", source, *budget]
        began = time.monotonic()
        run_outside([*command, "--quiet", "--out", run, *(found_at if t.data != "emoji" else [])])
        seconds = time.monotonic() - began
        training = json.loads((Path(run) / "metrics.json").read_text())["training"]
        model, precision = lf.load(run), Run.open(run).config["train"]["precision"]
        result = {
            "command": "latentforge " + " ".join(command).replace(source, t.data), "seed": seed,
            "seconds": round(seconds, 1),
            "parameters": {k: sum(p.numel() for m in ms for p in m.parameters()) for k, ms in model.players().items()},
            "precision": precision, "training": training, "test": judged(run, t), "machine": machine(),
        }  # fmt: skip
        keep(name, cell, seed, result)
        if cell == "vae" and "vae-gmm" in t.cells and seed < t.seeds.get("vae-gmm", 1):
            keep(name, "vae-gmm", seed, result | {
                "command": f"{result['command']}; latentforge evaluate RUN --sampler gmm",
                "test": judged(run, t, "--sampler", "gmm"),
            })  # fmt: skip


def judged(run: str | Path, t: Table, *more: str) -> dict[str, Any]:
    """What a run scores on the test set, by measure."""
    how = ["--metrics", "own,samples,memorisation", "--features", t.features, "--repeats", "0", "--json", *more]
    return {row.pop("measure"): row for row in json.loads(run_outside(["evaluate", str(run), *how]))}


def judge_again(name: str, cell: str, seed: int, runs: str) -> None:
    """Measure a kept run anew, where the measures have changed since; what is of its training stays, its machine too."""
    result, own = json.loads(file(name, cell, seed).read_text()), "vae" if cell == "vae-gmm" else cell
    sampler = ("--sampler", "gmm") if cell == "vae-gmm" else ()
    test = judged(Path(runs) / f"{name}-{own}-{seed}", TABLES[name], *sampler)
    keep(name, cell, seed, result | {"test": test, "measured_again": machine()})


def keep(name: str, cell: str, seed: int, result: dict[str, Any]) -> None:
    place = file(name, cell, seed)
    keep_result(place, result)
    values = {k: round(v["value"], 4) for k, v in result["test"].items()}
    print(name, cell, seed, f"{result['seconds']:.0f} s", values, flush=True)


def kept(name: str) -> dict[str, list[dict[str, Any]]]:
    """The finished runs of each cell, by seed."""
    t = TABLES[name]
    found = {c: [file(name, c, s) for s in range(t.seeds.get(c, 1))] for c in t.cells}
    return {
        c: [json.loads(f.read_text()) for f in files if f.exists()] for c, files in found.items() if files[0].exists()
    }


def table(name: str, only: tuple[str, ...] = (), measures: tuple[str, ...] = SHOWN) -> str:
    """Markdown: the mean over seeds with their range, the baseline and what real images score at the end; of all cells or
    `only` some."""
    cells = {cell: runs for cell, runs in kept(name).items() if not only or cell in only}
    if not cells:
        return "Not measured yet: `make flagship` does."
    first = next(iter(cells.values()))[0]["test"]
    names = {start: next(k for k in first if k.startswith(start)) for start in measures}
    shown = list(names.values())
    lines = [
        "| `train …` | seeds | images seen | " + " | ".join(shown) + " |",
        "| --- |" + " ---: |" * (len(shown) + 2),
    ]
    for cell, runs in cells.items():
        values = [[r["test"][k]["value"] for r in runs if k in r["test"]] for k in names.values()]
        seen = statistics.mean(r["training"]["examples"] for r in runs)
        lines.append(
            f"| `{TABLES[name].cells.get(cell, cell)}` | {len(runs)} | {seen:,.0f} | "
            + " | ".join(map(spread, values))
            + " |"
        )
    for row, key in (("trivial baseline", "baseline"), ("real images", "reference")):
        ends = [first[k].get(key) for k in names.values()]
        ends = [
            None if k == "reconstruction_mse" and key == "reference" else e for k, e in zip(names, ends, strict=True)
        ]
        lines.append(f"| {row} | | | " + " | ".join("" if e is None else f"{e:.4g}" for e in ends) + " |")
    places = {f"`{TABLES[name].cells.get(c, c)}`": [r["machine"] for r in runs] for c, runs in cells.items()}
    return "\n".join(lines) + where(places)


def spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help="names of tables, or TABLE/CELL; all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", help="folder to keep the runs in")
    parser.add_argument("--again", action="store_true", help="measure the kept runs of the cells in --runs anew")
    parser.add_argument("--table", choices=list(TABLES))
    options = parser.parse_args()
    if options.again and not options.runs:
        parser.error("--again needs --runs, the folder that the runs were kept in")
    if options.table:
        print(table(options.table))
    else:
        for name in TABLES:
            for cell, seed in jobs(name):
                wanted = not options.tables or name in options.tables or f"{name}/{cell}" in options.tables
                known = file(name, cell, seed).exists()
                if wanted and known and options.again:
                    judge_again(name, cell, seed, options.runs)
                elif wanted and not known and not options.again:  # the VAE's run may just have given vae-gmm
                    measure(name, cell, seed, options.data_dir, options.runs)
