"""What a kept number must say about where it came from."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from latentforge.saving import computes_in_bf16


def machine() -> dict[str, Any]:
    """Processor and what it computes with, cores, versions and date."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), model)
    except OSError:
        pass
    packages = {p: version(p) for p in ("latentforge", "torch", "numpy", "scikit-learn")}
    return {
        "processor": model, "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": computes_in_bf16(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "python": platform.python_version(), **packages,
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def other(kept: dict[str, Any]) -> bool:
    """Whether what was measured on the machine `kept` cannot be gone on with here: another kind of processor."""
    here = machine()
    return any(kept[k] != here[k] for k in ("processor", "instructions", "bf16", "cores"))
