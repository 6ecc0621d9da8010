"""Latentforge, through the whole path of its command, log, checkpoint and previews included; rounds are timed from outside.
`--variant flops` counts instead what one round computes."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path

from clockwork import BATCH, CHUNKS, LATENT, RATE, options, report

COMMANDS = {
    "conv-vae": ["vae", "--net", "article-004", "--latent-dim", LATENT],
    "dense-vae": ["vae", "--net", "mlp", "--hidden", 400, "--latent-dim", LATENT],
    "dcgan": ["dcgan", "--net", "article-004"],
    "vae-gan": ["larsen-vae-gan", "--latent-dim", LATENT, "--width", 64, "--feature", 1, "--pixel", 0, "--gamma", 0.1,
                "--margin", 0, "--fakes", "prior", "--sampler", "prior"],
}  # fmt: skip


def main() -> None:
    o = options()
    from torch.utils.flop_counter import FlopCounterMode

    from latentforge.cli import main as command
    from latentforge.train import Trainer

    stamps: list[float] = []
    play = Trainer.round

    def timed(self):
        if o.variant == "flops" and len(stamps) == 2:
            with FlopCounterMode(display=False) as counter:
                play(self)
            print(json.dumps({"flops_per_image": counter.get_total_flops() / BATCH}), file=sys.__stdout__)
            raise SystemExit(0)
        play(self)
        stamps.append(time.time())

    Trainer.round = timed  # type: ignore[method-assign]
    minutes = (o.seconds + 25) / 60  # the first previews and the warm-up are not timed
    with tempfile.TemporaryDirectory() as folder:
        precision = "bf16" if o.variant == "bf16" else "fp32"
        argv = ["train", *COMMANDS[o.workload], "--data", o.data, "--batch-size", BATCH, "--lr", RATE, "--ema", 0,
                "--minutes", minutes, "--out", Path(folder) / "run", "--precision", precision]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            code = command([str(a) for a in argv])
        if code or o.variant == "flops":
            sys.exit(code)
    if len(stamps) < 40 + 2 * CHUNKS:
        sys.exit(f"only {len(stamps)} rounds in the window; give a larger --seconds")
    first, warm = stamps[0] - o.start, next(i for i, s in enumerate(stamps) if s - stamps[0] > 3 and i >= 30)
    timed_rounds = stamps[warm:]
    size = (len(timed_rounds) - 1) // CHUNKS
    chunks = [size * BATCH / (timed_rounds[(i + 1) * size] - timed_rounds[i * size]) for i in range(CHUNKS)]
    report(chunks, first, None, ("latentforge", "torch", "numpy"))


if __name__ == "__main__":
    main()
