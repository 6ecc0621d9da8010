"""The classifier of handwritten digits that judges what samples show; no model here ever sees it.

    python benchmarks/digits.py    # train it on MNIST's training images, write it into the package (`make digits`)

Its file is src/latentforge/metrics/weights/digits.safetensors, with its error on the test images and its hash inside.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from machine import keep_result, machine

import latentforge
from latentforge.data import open_data
from latentforge.metrics import features
from latentforge.metrics.network import train_classifier

FILE = Path(latentforge.__file__).parent / "metrics" / "weights" / "digits.safetensors"
RESULT = Path(__file__).parent / "results" / "digits.json"
EPOCHS = 20

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    data = open_data("mnist", data_dir=options.data_dir)
    began = time.monotonic()
    net = features.half(train_classifier(data.train, 10, options.epochs * len(data.train)))
    facts = {
        "error": features.error(net, data.test),
        "sha256": features.fingerprint(net),
        "epochs": str(options.epochs),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    features.save(net, options.out, facts)
    result = facts | {
        "validation_error": features.error(net, data.validation), "training_images": len(data.train),
        "seconds": round(time.monotonic() - began, 1), "threads": torch.get_num_threads(), "machine": machine(),
    }  # fmt: skip
    if options.out == FILE:
        keep_result(RESULT, result)
    print(f"test error {float(facts['error']):.2%}, sha256 {facts['sha256'][:12]}, {result['seconds']} s")
