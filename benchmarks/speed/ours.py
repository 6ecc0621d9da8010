"""Latentforge, through the whole path of its command, log, checkpoint and previews included; rounds are timed from outside.
It is the beginning of a run of five minutes, the default, cut short when enough rounds are timed. `--variant flops` counts
instead what one round computes, `--variant profile` says where the time of a round goes (`profile-bf16` in bf16)."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clockwork import BATCH, CHUNKS, LATENT, RATE, options, report

COMMANDS = {
    "conv-vae": ["vae", "--net", "article-004", "--latent-dim", LATENT],
    "dense-vae": ["vae", "--net", "mlp", "--hidden", 400, "--latent-dim", LATENT],
    "dcgan": ["dcgan", "--net", "article-004"],
    "vae-gan": ["larsen-vae-gan", "--latent-dim", LATENT, "--width", 64, "--feature", 1, "--pixel", 0, "--gamma", 0.1,
                "--margin", 0, "--fakes", "prior", "--sampler", "prior"],
}  # fmt: skip


KINDS = {  # of operators, by parts of their names; the first that fits
    "convolutions": ("conv",), "matrix products": ("mm", "linear"), "batch norm": ("batch_norm",),
    "optimisers": ("fused", "foreach"), "everything else": ("",),
}  # fmt: skip
PROFILED = 40  # rounds


class Enough(BaseException):
    """The run has been timed."""


def profiled(play: Callable[[], None]) -> dict[str, Any]:
    """Milliseconds of a round by kind of operator, as torch's profiler has them; what is left of the wall clock is Python
    and the profiler itself. Beside them the round without a profiler."""
    from torch.profiler import ProfilerActivity, profile

    def clock() -> float:
        begin = time.perf_counter()
        for _ in range(PROFILED):
            play()
        return 1000 * (time.perf_counter() - begin) / PROFILED

    alone = clock()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        watched = clock()
    parts = dict.fromkeys(KINDS, 0.0)
    for event in found.key_averages():
        kind = next(k for k, names in KINDS.items() if any(n in event.key.lower() for n in names))
        parts[kind] += event.self_cpu_time_total / 1000 / PROFILED
    return {
        "milliseconds": round(alone, 2), "watched": round(watched, 2), "parts": {k: round(v, 2) for k, v in parts.items()}
    }  # fmt: skip


def main() -> None:
    o = options()
    from torch.utils.flop_counter import FlopCounterMode

    from latentforge.cli import main as command
    from latentforge.train import Trainer

    stamps: list[float] = []
    warm: list[int] = []  # the first stamp after the warm-up
    play = Trainer.round

    def timed(self):
        if o.variant == "flops" and len(stamps) == 2:
            with FlopCounterMode(display=False) as counter:
                play(self)
            print(json.dumps({"flops_per_image": counter.get_total_flops() / BATCH}), file=sys.__stdout__)
            raise SystemExit(0)
        if o.variant.startswith("profile") and len(stamps) == 40:
            print(json.dumps(profiled(lambda: play(self))), file=sys.__stdout__)
            raise SystemExit(0)
        play(self)
        stamps.append(time.time())
        if not warm and len(stamps) > 30 and stamps[-1] - stamps[0] > 3:
            warm.append(len(stamps) - 1)
        if warm and len(stamps) - warm[0] > 2 * CHUNKS and stamps[-1] - stamps[warm[0]] > o.seconds:
            raise Enough

    Trainer.round = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        precision = "bf16" if o.variant.endswith("bf16") else "fp32"
        argv = ["train", *COMMANDS[o.workload], "--data", o.data, "--batch-size", BATCH, "--lr", RATE, "--ema", 0,
                "--out", Path(folder) / "run", "--precision", precision]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Enough):
            sys.exit(command([str(a) for a in argv]) or "the run ended before it was timed")
    first, timed_rounds = stamps[0] - o.start, stamps[warm[0] :]
    size = (len(timed_rounds) - 1) // CHUNKS
    chunks = [size * BATCH / (timed_rounds[(i + 1) * size] - timed_rounds[i * size]) for i in range(CHUNKS)]
    report(chunks, first, None, ("latentforge", "torch", "numpy"))


if __name__ == "__main__":
    main()
