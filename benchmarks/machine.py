"""Results of benchmarks on disk, and what a kept number must say about where it came from."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from latentforge.files import write_text
from latentforge.saving import computes_in_bf16


def machine() -> dict[str, Any]:
    """Processor, its family and model, and what it computes with, cores, versions and date."""
    rows: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            pairs = (line.partition(":")[::2] for line in f)
            rows = {k.strip(): v.strip() for k, v in reversed(list(pairs))}  # of the first core
    except OSError:
        pass
    packages = {p: version(p) for p in ("latentforge", "torch", "numpy", "scikit-learn")}
    return {
        "processor": rows.get("model name") or platform.processor() or platform.machine(),
        "family": " ".join(rows[k] for k in ("cpu family", "model") if k in rows),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": computes_in_bf16(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "python": platform.python_version(), **packages, "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def commit() -> str:
    """The state of the code, "" where it is not known."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def keep_result(file: Path, result: dict[str, Any], indent: int | None = 1) -> None:
    """Write a result as JSON, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(result, indent=indent) + "\n")


def where(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Which rows of a table were measured on which machine: a line for below the table; nothing where all have the same.
    `rows` holds the `machine()` of each of a row's results."""
    kinds: dict[str, list[str]] = {}
    known = all(kept.get("family") for results in rows.values() for kept in results)  # older results do not say
    for name, results in rows.items():
        for kind in dict.fromkeys(kind_of(kept if known else kept | {"family": ""}) for kept in results):
            kinds.setdefault(kind, []).append(name)
    if len(kinds) < 2:
        return ""
    return (
        "\n\nNot all on one machine: "
        + "; ".join(f"{', '.join(names)} on {kind}" for kind, names in kinds.items())
        + "."
    )


def kind_of(kept: dict[str, Any]) -> str:
    """A machine in words; what was not noted then is left out."""
    words = [
        " ".join(str(kept["processor"]).split()),
        f"(family and model {kept['family']})" if kept.get("family") else "",
    ]
    words += [kept.get("instructions", ""), "bf16" if kept.get("bf16") else ""]
    words += [f"{kept['threads']} threads" if kept.get("threads", 1) > 1 else ""]
    return " ".join(filter(None, words))


def other(kept: dict[str, Any]) -> bool:
    """Whether what was measured on the machine `kept` cannot be gone on with here: another kind of processor, other threads or
    another torch."""
    here = machine()
    same = ("processor", "family", "instructions", "bf16", "cores", "threads", "torch")
    return any(kept[k] != here[k] for k in same if k in kept)
