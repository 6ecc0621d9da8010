"""How much a measure of samples varies from one set of samples to the next, where few images are held out.

    python benchmarks/sets.py NAME RUN --data DATA [--features self]

The samples of a finished run are held against its validation images set by set, as `evaluate` does before it takes the
mean: mean and standard deviation over the sets of samples, of the trivial baseline and of training images. Kept in
benchmarks/results/sets/NAME.json.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from machine import keep_result, machine

import latentforge as lf
from latentforge.data.dataset import open_data
from latentforge.metrics.coverage import neighbourhoods
from latentforge.metrics.samples import distances
from latentforge.metrics.subject import Subject
from latentforge.run import Run

RESULTS = Path(__file__).parent / "results" / "sets"


def spread(s: Subject, which: str) -> dict[str, Any]:
    """The number of sets of `fake`, `gauss` or `floor`, and of each measure (mean, standard deviation) over them."""
    (extractor,), (real,) = s.extractors, s.of("real", s.extractors[0])
    found = [distances(real, one) | neighbourhoods(real, one) for one in s.of(which, extractor)]
    values = {k: [f[k] for f in found] for k in found[0]}
    return {"sets": len(found)} | {k: [statistics.mean(v), statistics.stdev(v)] for k, v in values.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("run")
    parser.add_argument("--data", required=True)
    parser.add_argument("--features", default="self")
    options = parser.parse_args()
    s = Subject(lf.load(options.run), open_data(options.data), "validation", 0, (options.features,), 0)
    if s.sets < 2:
        parser.error(f"{s.n} images are not few: {options.data} is measured in one set")
    config = Run.open(options.run).config
    how = {k: config["train"][k] for k in ("minutes", "examples", "batch_size", "schedule", "seed", "precision")}
    result = {
        "model": s.model.name, "settings": config["model"], "training": how,
        "split": "validation", "images": s.n, "seed": 0, "features": s.extractors[0].about,
        "samples": spread(s, "fake"), "trivial baseline": spread(s, "gauss"), "training images": spread(s, "floor"),
        "machine": machine(),
    }  # fmt: skip
    keep_result(RESULTS / f"{options.name}.json", result)
    print(options.name, {k: result[k] for k in ("samples", "trivial baseline", "training images")})
