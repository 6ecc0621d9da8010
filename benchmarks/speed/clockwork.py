"""What every contestant shares: how a training step is timed. Needs nothing but NumPy, so that it runs in any environment."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

BATCH, RATE, LATENT = 128, 1e-3, 20
CHUNKS = 5  # equal parts of the timed window; the result is their median
LEARN_AFTER = 200  # steps after which the loss is read


def options() -> argparse.Namespace:
    """WORKLOAD DATA.npz --seconds S --start T: T is when the process was asked for, so that imports count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--start", type=float, default=time.time())
    parser.add_argument("--variant", default="")
    return parser.parse_args()


def digits(path: Path) -> np.ndarray:
    """(N, 28, 28) float32 in [0, 1]."""
    return np.load(path)["images"].astype(np.float32) / 255


def contest(step: Callable[[], float | None], o: argparse.Namespace, packages: tuple[str, ...]) -> None:
    """Time `step`, which trains on BATCH images and may answer its loss, and print one line of JSON. The warm-up, 30 steps
    and at least 3 seconds, is not timed; a compiler is done by then."""
    step()
    first = time.time() - o.start
    begin, warm = time.perf_counter(), 0
    while warm < 30 or time.perf_counter() - begin < 3:
        step()
        warm += 1
    per_step = (time.perf_counter() - begin) / warm
    steps = max(2, round(o.seconds / CHUNKS / per_step))
    chunks, loss = [], None
    for _ in range(CHUNKS):
        begin = time.perf_counter()
        for _ in range(steps):
            loss = step()
        chunks.append(steps * BATCH / (time.perf_counter() - begin))
    report(chunks, first, loss, packages)


def report(chunks: list[float], first: float, loss: float | None, packages: tuple[str, ...]) -> None:
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    print(json.dumps({
        "images_per_second": round(statistics.median(chunks), 1), "chunks": [round(c, 1) for c in chunks],
        "first_step_seconds": round(first, 2), "loss": loss,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), "versions": versions,
    }))  # fmt: skip
