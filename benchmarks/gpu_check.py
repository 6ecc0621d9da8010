"""Does an accelerator compute what the processor does, and how fast: every family on whatever accelerator is there.

    python benchmarks/gpu_check.py [MODEL ...] [--device cuda|mps|cpu] [--rounds 200]

For each family: the gradients of the first round (of a model with stages: of the first stage) against the processor's on the
same weights, images and noise; training in fp32 and bf16, with images per second, peak memory and whether all weights stay
finite; sampling. Kept in benchmarks/results/gpu/DEVICE.json. Exit code 1 where a family
fails, 2 where there is no accelerator.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine

import latentforge as lf
from latentforge.api import create_for
from latentforge.clock import Clock
from latentforge.data.dataset import Dataset
from latentforge.parts.operators import spoil
from latentforge.registry import MODELS
from latentforge.train import Trainer

RESULTS = Path(__file__).parent / "results" / "gpu"
TOLERANCE = 1e-3  # of a player's gradient, relative to its norm, in float32


def there() -> str | None:
    """The accelerator of this machine."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None


def same_noise() -> None:
    """Let every clock draw on the processor, whatever its device."""

    def share(self: Clock, draw, n: int, *shape: int) -> torch.Tensor:
        whole = draw(n * self.parts, *shape, generator=self.generator)
        return whole[self.part * n : (self.part + 1) * n].to(self.device)

    start = Clock.__init__

    def begin(self: Clock, *a, **k) -> None:
        start(self, *a, **k)
        self.generator = torch.Generator()

    Clock._share, Clock.__init__ = share, begin  # type: ignore[method-assign]


def parity(name: str, data: Dataset, device: str) -> float:
    """The largest relative error of a player's gradient over the moves of the first round."""
    torch.manual_seed(0)
    model = create_for(name, data, 0, {})
    found = []
    for place in ("cpu", device):
        trainer = Trainer(
            copy.deepcopy(model), data, examples=10_000, ema=0, quiet=True, device=place, precision="fp32"
        )
        trainer.clocks[0].start_round()
        torch.manual_seed(0)
        trainer.plays = [trainer.model.play(trainer.streams[0], trainer.clocks[0])]
        moves = []
        while (gradients := trainer.next_move()) is not None:
            moves.append({
                k: torch.cat([g.double().cpu().flatten() for g in grads if g is not None]) for k, grads in gradients.items()
            })  # fmt: skip
        found.append(moves)
    errors = [
        float((a[k] - b[k]).norm() / a[k].norm().clamp(min=1e-12)) for a, b in zip(*found, strict=True) for k in a
    ]
    return max(errors)


def speed(name: str, data: Dataset, device: str, precision: str, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    trainer = Trainer(
        create_for(name, data, 0, {}), data, examples=10**9, quiet=True, device=device, precision=precision
    )
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(min(20, rounds)):
        trainer.round()
    wait()
    begin, drawn = time.perf_counter(), trainer.streams[0].drawn
    for _ in range(rounds):
        trainer.round()
    wait()
    seconds = time.perf_counter() - begin
    waited = waits(trainer) if device == "cuda" else None
    model = trainer.model.eval()
    if model.has_restorer:
        images = lf.restore(model, spoil(data.test[torch.arange(64)].image, model.operator))
    else:
        images = model.sample(64, seed=0) if model.can_sample else model.decode(torch.randn(64, model.latent_dim))
    return {
        "images_per_second": round((trainer.streams[0].drawn - drawn) / seconds),
        "peak_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20) if device == "cuda" else None,
        "finite": all(bool(v.isfinite().all()) for v in model.state_dict().values()) and bool(images.isfinite().all()),
        "bad_steps": trainer.bad_steps, "waits_per_round": waited,
    }  # fmt: skip


def waits(trainer: Trainer, rounds: int = 16) -> float:
    """How often a round of the loop makes the processor wait for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(rounds):
            trainer.round()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in caught) / rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="families; all without any")
    parser.add_argument("--device", choices=("cuda", "mps", "cpu"))
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    device = options.device or there()
    if device is None:
        print("gpu_check: there is no accelerator on this machine; --device cpu checks the check.", file=sys.stderr)
        return 2
    data = lf.open_data("mnist-5k")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # for parity
    found: dict[str, Any] = {}
    before = Clock._share, Clock.__init__
    same_noise()
    for name in options.models or MODELS:
        found[name] = {"gradient_error": parity(name, data, device)}
    Clock._share, Clock.__init__ = before  # type: ignore[method-assign]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    for name, row in found.items():
        row |= {kind: speed(name, data, device, kind, options.rounds) for kind in ("fp32", "bf16")}
        row["passed"] = row["gradient_error"] < TOLERANCE and all(row[k]["finite"] for k in ("fp32", "bf16"))
        print(name, "passed" if row["passed"] else "FAILED", json.dumps(row), flush=True)
    called = torch.cuda.get_device_name() if device == "cuda" else device
    result = {
        "device": called,
        "tolerance": TOLERANCE,
        "rounds": options.rounds,
        "families": found,
        "machine": machine(),
    }
    keep_result(options.out / f"{called.lower().replace(' ', '-')}.json", result)
    return int(not all(row["passed"] for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
