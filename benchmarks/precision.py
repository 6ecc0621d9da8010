"""Does what makes training faster cost quality? The families that train in half precision by default, the same images in bf16
and in fp32; and the dropout of bytes beside torch's own. (Convolutions have torch's values and gradients: tests/test_nets.py.)

    python benchmarks/precision.py [FAMILY ...] [--data-dir DIR]   # train what is missing; "dropout" for that alone
    python benchmarks/precision.py --table                         # Markdown

Every cell draws the same number of training images of MNIST under one seed, and is measured on the validation set in
features of digits. What one seed differs from another says how much a difference between the columns means. Nothing
is timed, so cells may run beside each other. Numbers are kept in benchmarks/results/precision.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flagship import spread
from machine import keep_result, machine
from zoo import run_outside

RESULTS = Path(__file__).parent / "results" / "precision.json"
FAMILIES = ("gan", "dcgan", "wgan-gp", "r3gan", "aae", "vae-gan")
DROPOUT = "dcgan --net article-004"  # its critic has two layers of it
PAIRS = {**dict.fromkeys(FAMILIES, ("fp32", "bf16")), "dropout": ("torch", "ours")}
PLAIN = (  # the command with torch's own dropout
    "import sys; from torch import nn; from latentforge.nets import dropout; dropout.Dropout.forward = nn.Dropout.forward; "
    "from latentforge.cli import main; sys.exit(main(sys.argv[1:]))"
)
SEEDS = (0, 1, 2)
EXAMPLES = 60_000
SHOWN = ("frechet", "coverage")


def kept() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def measure(family: str, way: str, seed: int, data_dir: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        model = DROPOUT if family == "dropout" else family
        command = ["train", *model.split(), "--data", "mnist", "--examples", str(EXAMPLES), "--seed", str(seed)]
        command += ["--precision", "fp32" if family == "dropout" else way]
        whole = [*command, "--quiet", "--out", run, *(["--data-dir", data_dir] if data_dir else [])]
        if way == "torch":
            subprocess.run([sys.executable, "-c", PLAIN, *whole], check=True, stdout=subprocess.DEVNULL)
        else:
            run_outside(whole)
        evaluation = ["--split", "validation", "--metrics", "samples", "--features", "digits", "--repeats", "0"]
        run_outside(["evaluate", run, *evaluation])
        metrics = json.loads((Path(run) / "metrics.json").read_text())
    values = {k: v["value"] for k, v in metrics["validation"].items()}
    return {"command": "latentforge " + " ".join(command), "seed": seed, "validation": values, "machine": machine()}


def table() -> str:
    """A row per family and measure: the mean over seeds with their range, either way."""
    cells = kept()
    lines = ["| `train …` | measure | without | with |", "| --- | --- | ---: | ---: |"]
    for family, ways in PAIRS.items():
        columns = [[cells[k] for s in SEEDS if (k := f"{family}/{way}/{s}") in cells] for way in ways]
        if not all(columns):
            continue
        for start in SHOWN:
            name = next(k for k in columns[0][0]["validation"] if k.startswith(start))
            shown = [spread([run["validation"][name] for run in runs]) for runs in columns]
            what = f"`{DROPOUT}`, dropout of bytes" if family == "dropout" else f"`{family}`, bf16"
            lines.append(f"| {what} | {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines) if len(lines) > 2 else "Not measured yet: `make precision` does."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    else:
        for seed in SEEDS:
            for family in options.families or PAIRS:
                for way in PAIRS[family]:
                    key = f"{family}/{way}/{seed}"
                    if key in kept():
                        continue
                    found = measure(family, way, seed, options.data_dir)
                    keep_result(RESULTS, kept() | {key: found})
                    print(key, {k: round(v, 4) for k, v in found["validation"].items()}, flush=True)
