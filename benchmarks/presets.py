"""Train every preset whose result is not kept yet, evaluate it on the test set once, and keep the numbers.

    python benchmarks/presets.py [NAME ...] [--data-dir DIR]

Results lie in benchmarks/results/presets/; delete a file to measure it anew. `--table` prints the table of
docs/presets.md, `--expect` writes the expected result into each preset's file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from machine import keep_result, machine

from latentforge import presets

RESULTS = Path(__file__).parent / "results" / "presets"
FILES = Path(presets.__file__).parent
EVALUATE = ("--metrics", "own,samples", "--features", "pca50", "--repeats", "0")
SHOWN = ("loss_nats", "reconstruction_mse", "coverage", "density", "frechet")


def measure(name: str, data_dir: str | None) -> None:
    """Train, evaluate, keep."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = ["train", "--preset", name, "--quiet", "--out", str(run)]
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "latentforge", *command, *(["--data-dir", data_dir] if data_dir else [])],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        seconds = time.monotonic() - began
        subprocess.run(
            [sys.executable, "-m", "latentforge", "evaluate", str(run), *EVALUATE],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        metrics = json.loads((run / "metrics.json").read_text())
    result = {
        "preset": name, "command": "latentforge " + " ".join(command[:3]), "seed": 0,
        "seconds": round(seconds, 1), "training": metrics["training"], "test": metrics["test"], "machine": machine(),
    }  # fmt: skip
    file = RESULTS / f"{name}.json"
    keep_result(file, result)
    print(name, f"{seconds:.0f} s", {k: round(v["value"], 4) for k, v in metrics["test"].items()}, flush=True)


def table() -> str:
    """The kept results as a Markdown table; each preset's file gets its expected result."""
    lines = [
        "| preset | what it is | minutes | " + " | ".join(SHOWN) + " |",
        "| --- | --- |" + " ---: |" * (len(SHOWN) + 1),
    ]
    for name in presets.list_presets():
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        about = presets.load(name)
        cells = ["" if v is None else f"{v:.4g}" for v in shown(result).values()]
        lines.append(f"| `{name}` | {about['about']} | {result['seconds'] / 60:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(result: dict) -> dict:
    """The test numbers of the table by the beginnings of their names."""
    return {s: next((v["value"] for k, v in result["test"].items() if k.startswith(s)), None) for s in SHOWN}


def expected(name: str) -> dict[str, Any]:
    """Command, hardware, minutes and test numbers of a preset's kept result."""
    result = json.loads((RESULTS / f"{name}.json").read_text())
    return {
        "command": result["command"], "minutes": round(result["seconds"] / 60, 1),
        "hardware": f"{result['machine']['threads']} thread(s) of an {result['machine']['processor']}",
        **{k: float(f"{v:.4g}") for k, v in shown(result).items() if v is not None},
    }  # fmt: skip


def expect(name: str) -> None:
    """Write what is expected of a preset at the end of its file."""
    path = FILES / f"{name}.yaml"
    text = path.read_text().split("expected:")[0].rstrip()
    path.write_text(text + "\n" + yaml.safe_dump({"expected": expected(name)}, sort_keys=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data-dir")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--expect", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    elif options.expect:
        for preset in presets.list_presets():
            if (RESULTS / f"{preset}.json").exists():
                expect(preset)
    else:
        for preset in options.names or presets.list_presets():
            if not (RESULTS / f"{preset}.json").exists():
                measure(preset, options.data_dir)
