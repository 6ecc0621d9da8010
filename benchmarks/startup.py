"""How long the command takes to answer, and a training to make its first step.

    python benchmarks/startup.py            # measure and keep, a minute; nothing else may run beside it
    python benchmarks/startup.py --table    # Markdown

Each row is a process of its own, timed from outside until it ends or, in training, until the first step is made; all rows in
turn, seven times over, medians. Kept in benchmarks/results/startup.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import keep_result, machine

RESULT = Path(__file__).parent / "results" / "startup.json"
REPEATS = 7
FIRST = """
import os, sys, time
from latentforge.cli import main
from latentforge.train import Trainer
play = Trainer.round
def first(self):
    play(self)
    print(time.time(), flush=True)
    os._exit(0)
Trainer.round = first
main(["train", sys.argv[1], "--data", "mnist-5k", "--minutes", "1", "--quiet", "--out", sys.argv[2]])
"""
ADAM = "import torch; torch.optim.Adam([torch.zeros(1, requires_grad=True)])"  # which imports torch's compiler
ROWS = {
    "`python -c pass`": ["-c", "pass"],
    "`latentforge --help`": ["-m", "latentforge", "--help"],
    "`latentforge models`": ["-m", "latentforge", "models"],
    '`python -c "import torch"`': ["-c", "import torch"],
    "the same, and `torch.optim.Adam` made": ["-c", ADAM],
    "`latentforge train vae`, first step made": ["-c", FIRST, "vae"],
    "`latentforge train vae-gan`, first step made": ["-c", FIRST, "vae-gan"],
}


def seconds(arguments: list[str]) -> float:
    """From the call until the end, or until the first step."""
    with tempfile.TemporaryDirectory() as folder:
        training = FIRST in arguments
        command = [sys.executable, *arguments, *([str(Path(folder) / "run")] if training else [])]
        began = time.time()
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return (float(out.split()[-1]) if training else time.time()) - began


def measure() -> dict[str, Any]:
    taken: dict[str, list[float]] = {row: [] for row in ROWS}
    for _ in range(REPEATS):
        for row, arguments in ROWS.items():
            taken[row].append(seconds(arguments))
    rows = {
        row: {"median": round(statistics.median(s), 3), "low": round(min(s), 3), "high": round(max(s), 3)}
        for row, s in taken.items()
    }
    return {"command": "python benchmarks/startup.py", "repeats": REPEATS, "seconds": rows, "machine": machine()}


def table() -> str:
    """Markdown."""
    if not RESULT.exists():
        return "Not measured yet: `python benchmarks/startup.py` does."
    lines = ["| | seconds, median (least to most) |", "| --- | ---: |"]
    for row, s in json.loads(RESULT.read_text())["seconds"].items():
        lines.append(f"| {row} | {s['median']:.2f} ({s['low']:.2f} to {s['high']:.2f}) |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true")
    if not parser.parse_args().table:
        keep_result(RESULT, measure())
    print(table())
