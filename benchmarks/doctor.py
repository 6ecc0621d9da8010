"""Does the doctor see what is wrong, and is it silent where nothing is? Healthy runs of every family with its defaults, and
runs made sick on purpose, at least two per rule.

    python benchmarks/doctor.py [CELL ...] [--part tune|check] [--jobs 2] [--data-dir DIR]   # finished cells are skipped
    python benchmarks/doctor.py --judge        # what today's rules say of all kept streams, without training
    python benchmarks/doctor.py --table        # the confusion table of docs/doctor.md, of part `check`

Thresholds are set on part `tune` alone, then frozen; part `check` has other seeds, and its sick runs another set. The
stream of each run is kept in benchmarks/results/doctor/PART/CELL.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep_result, machine

from latentforge.data import open_data
from latentforge.diagnose.doctor import Doctor
from latentforge.diagnose.rules import RULES
from latentforge.registry import MODELS, model_class
from latentforge.run import Run

RESULTS = Path(__file__).parent / "results" / "doctor"
BUDGET = "--image-size 16 --minutes 0.5"  # small images, so that half a minute on one thread is a training
FEW = 30  # images of the set `few`
SICK: dict[str, tuple[str, ...]] = {
    "mode collapse": (
        "gan --lr critic=1e-6,generator=1e-3",
        "dcgan --lr critic=2e-6,generator=2e-3 --ema 0",
        "cgan --lr critic=1e-6,generator=2e-3 --ema 0",
    ),
    "posterior collapse": ("vae --beta 40", "vae --net mlp --beta 60 --latent-dim 8", "cvae --beta 40"),
    "dead decoder": (
        "autoencoder --net mlp --optimizer sgd --lr 30",
        "autoencoder --lr 0.3",
        "aae --lr autoencoder=0.3,critic=1e-4",
    ),
    "critic too strong": (
        "dcgan --critic-steps 2 --lr critic=2e-3,generator=1e-6",
        "gan --critic-steps 10 --lr critic=1e-3,generator=1e-6",
    ),
    "critic too weak": (
        "gan --lr critic=1e-8,generator=1e-4",
        "wgan --critic-steps 1 --boosted-rounds 0 --lr critic=1e-9,generator=5e-5",
        "gan --label-noise 0.5",
    ),
    "critic loss falls fast": (
        "gan --critic-steps 10 --lr critic=2e-3,generator=1e-6",
        "dcgan --lr critic=2e-3,generator=1e-7",
    ),
    "generator loss falls fast": (
        "cgan --lr critic=1e-7,generator=2e-3",
        "dcgan --lr critic=1e-7,generator=2e-3",
    ),
    "vanishing generator gradient": (
        "gan --loss minimax --critic-steps 10 --lr critic=1e-3,generator=1e-4",
        "dcgan --loss minimax --critic-steps 5 --lr critic=1e-3,generator=1e-5",
    ),
    "oscillation": (
        "gan --loss wasserstein --clip-weights 0.1 --lr critic=0.01,generator=0.0003",
        "unrolled-gan --unroll 0 --loss wasserstein --clip-weights 0.1 --lr critic=0.01,generator=0.001",
    ),
    "memorisation": ("gan --data few --batch-size 16", "gan --data few --batch-size 16 --loss hinge"),
    "too few data": ("vae --data few --net mlp --hidden 512", "autoencoder --data few", "dcgan --data few --batch-size 16"),
    "not finite": ("vae --lr 1e6 --optimizer sgd", "gan --lr 1e12 --optimizer sgd"),
}  # fmt: skip
PARTS = {
    "tune": [("mnist-5k", 0), ("mnist-5k", 1), ("fashion-mnist", 2)],
    "check": [("mnist-5k", 3), ("fashion-mnist", 4)],
}
SICK_PARTS = {"tune": [("mnist-5k", 0)], "check": [("fashion-mnist", 1)]}


def cells(part: str) -> dict[str, dict[str, Any]]:
    """Every run of a part: what it is, and the rule it is to set off (None for healthy ones)."""
    out = {}
    for source, seed in PARTS[part]:
        for model in (name for name, v in MODELS.items() if v.kind != "restorer"):
            out[f"{model}-{source}-{seed}"] = {"words": model, "data": source, "seed": seed, "rule": None}
    for source, seed in SICK_PARTS[part]:
        for rule, commands in SICK.items():
            for i, words in enumerate(commands):
                name = f"{rule.replace(' ', '-')}-{i}-{source}-{seed}"
                out[name] = {"words": words, "data": source, "seed": seed, "rule": rule}
    return out


def few(source: str, data_dir: str | None, folder: str) -> Path:
    """A file of so few images, of a named set, that a model learns them by heart."""
    path = Path(folder) / f"latentforge-{FEW}-{source}.npz"
    data = open_data(source, data_dir=data_dir)
    n, held = FEW, 200
    parts = {
        "train": data.train.pixels[data.train.spread(n)],
        "val": data.validation.pixels[data.validation.spread(held)],
        "test": data.test.pixels[data.test.spread(held)],
    }
    np.savez(path, **{f"{name}_images": pixels[:, 0].numpy() for name, pixels in parts.items()})
    return path


def measure(name: str, cell: dict[str, Any], part: str, data_dir: str | None) -> None:
    """Train one cell in a process of its own, keep its stream."""
    words = shlex.split(cell["words"])
    source = cell["data"]
    where = ["--data-dir", data_dir] if data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        if "few" in words:
            at = words.index("few")
            words[at - 1 : at + 1] = []
            source = str(few(source, data_dir, folder))
        run = str(Path(folder) / "run")
        command = ["train", *words, "--data", source, *BUDGET.split(), "--seed", str(cell["seed"])]
        done = subprocess.run(
            [sys.executable, "-m", "latentforge", *command, *where, "--quiet", "--out", run], capture_output=True, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # runs beside each other, each on its own core
        )  # fmt: skip
        if done.returncode not in (0, 1):  # 1: ended by what went wrong, which is what is looked for
            raise SystemExit(f"{name} ended with exit code {done.returncode}: {done.stderr.strip()[-200:]}")
        opened = Run.open(run)
        rows, loss = opened.stats(), opened.config["model"].get("loss")
    told = "latentforge " + shlex.join(command).replace(source, Path(source).name)
    result = cell | {
        "command": told, "exit_code": done.returncode, "loss": loss,
        "rows": [{k: short(v) for k, v in r.items()} for r in rows if "finding" not in r], "machine": machine(),
    }  # fmt: skip
    place = RESULTS / part
    keep_result(place / f"{name}.json", result, indent=None)
    print(part, name, cell["rule"] or "healthy", "->", ", ".join(findings(result)) or "silent", flush=True)


def short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def findings(result: dict[str, Any]) -> list[str]:
    """What the rules of today say of a kept stream."""
    doctor = Doctor(result["loss"], model_class(shlex.split(result["words"])[0]).unworried)
    return [f.rule for row in result["rows"] for f in doctor.see(row)]


def kept(part: str) -> dict[str, dict[str, Any]]:
    place = RESULTS / part
    return {f.stem: json.loads(f.read_text()) for f in sorted(place.glob("*.json"))} if place.exists() else {}


def table(part: str) -> str:
    """Markdown: per rule, how many of its sick runs it named, and in how many healthy runs it spoke."""
    runs = kept(part)
    if not runs:
        return "Not measured yet: `make doctor` does."
    said = {name: findings(r) for name, r in runs.items()}
    healthy = [n for n, r in runs.items() if r["rule"] is None]
    lines = [
        "| rule | sick runs | named | named otherwise | silent | false alarms |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    right = sick = 0
    for rule in RULES:
        own = [n for n, r in runs.items() if r["rule"] == rule]
        hits = [n for n in own if rule in said[n]]
        others = sorted({f for n in own if n not in hits for f in said[n]})
        silent, false = sum(not said[n] for n in own), sum(rule in said[n] for n in healthy)
        lines.append(f"| {rule} | {len(own)} | {len(hits)} | {', '.join(others)} | {silent} | {false} |")
        right, sick = right + len(hits), sick + len(own)
    alarmed = sum(bool(said[n]) for n in healthy)
    lines.append(f"| all | {sick} | {right} ({right / max(sick, 1):.0%}) | | | {alarmed} of {len(healthy)} runs "
                 f"({alarmed / max(len(healthy), 1):.0%}) |")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help="beginnings of names of cells; all without any")
    parser.add_argument("--part", choices=list(PARTS), action="append")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--data-dir")
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table("check"))
    elif options.judge:
        for part in options.part or PARTS:
            for name, r in kept(part).items():
                print(part, name, "|", r["rule"] or "healthy", "|", ", ".join(findings(r)) or "silent")
    else:
        for part in options.part or PARTS:
            todo = {n: c for n, c in cells(part).items()
                    if n.startswith(tuple(options.cells) or "") and not (RESULTS / part / f"{n}.json").exists()}  # fmt: skip
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(partial(measure, part=part, data_dir=options.data_dir), todo, todo.values()))
