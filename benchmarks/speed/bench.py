"""How fast the trainer is beside other tools on this machine: paired runs in alternation, in processes of their own.

    python benchmarks/speed/bench.py [WORKLOAD ...] [--rounds 7] [--seconds 15] [--envs DIR] [--data-dir DIR]
    python benchmarks/speed/bench.py --table      # Markdown
    python benchmarks/speed/bench.py --profile    # Markdown: where the time of our rounds goes

Four workloads on MNIST in batches of 128, Adam at 1e-3, all cores: conv-vae, dense-vae, dcgan, vae-gan. Ours goes through
the whole path of the command `latentforge train`, with log, previews and checkpoints (but without the averaged weights,
which no other tool keeps). Each peer is installed, pinned, into an environment of its own; one that cannot be is reported.
What is kept in benchmarks/results/speed/WORKLOAD.json grows by rounds: a round is one run of every contestant, one after
the other, so that a machine that drifts moves all alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))
from machine import keep_result, machine, other

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "speed"
WORKLOADS = ("conv-vae", "dense-vae", "dcgan", "vae-gan")
ENVIRONMENTS = {
    "pythae": ["torch==2.13.0", "pythae==0.1.2"],
    "tensorflow": ["tensorflow-cpu==2.21.0"],
    "jax": ["jax==0.10.2", "jaxlib==0.10.2", "flax==0.12.8", "optax==0.2.8"],
}


class Contestant(NamedTuple):
    script: str
    environment: str | None = None  # None: the one this runs in
    variant: str = ""
    workloads: tuple[str, ...] = WORKLOADS


CONTESTANTS = {
    "latentforge": Contestant("ours.py"),
    "latentforge, bf16": Contestant("ours.py", variant="bf16"),
    "plain PyTorch": Contestant("plain.py"),
    "pythae": Contestant("pythae_peer.py", "pythae", workloads=("conv-vae", "dense-vae", "vae-gan")),
    "TensorFlow": Contestant("keras_peer.py", "tensorflow"),
    "TensorFlow, XLA": Contestant("keras_peer.py", "tensorflow", "xla"),
    "JAX": Contestant("jax_peer.py", "jax"),
}


def python(environment: str | None, envs: Path) -> str:
    """The interpreter of an environment, made and filled at the first call."""
    if environment is None:
        return sys.executable
    place = envs / environment
    ready, program = place / ".ready", str(place / "bin" / "python")
    wanted = "\n".join(ENVIRONMENTS[environment])
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([program, "-m", "pip", "install", "--quiet", *ENVIRONMENTS[environment]], check=True)
        ready.write_text(wanted)
    return program


def run(contestant: Contestant, workload: str, data: Path, seconds: float, envs: Path) -> dict[str, Any]:
    """One run's line of JSON, or {'missing': why}."""
    if contestant.variant == "bf16" and not machine()["bf16"]:
        return {"missing": "this processor does not compute in bf16"}
    try:
        program = python(contestant.environment, envs)
    except (subprocess.CalledProcessError, OSError) as error:
        return {"missing": f"could not be installed: {error}"}
    command = [program, str(HERE / contestant.script), workload, str(data), "--seconds", str(seconds),
               "--variant", contestant.variant, "--start", str(time.time())]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"missing": (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]}
    return json.loads(lines[-1])


def measure(workload: str, rounds: int, seconds: float, envs: Path, data: Path) -> None:
    file = RESULTS / f"{workload}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(file.read_text()) if file.exists() else {"workload": workload, "runs": {}, "machine": machine()}
    if other(kept["machine"]):
        raise SystemExit(f"{file} was begun on another processor; delete it to measure anew.")
    if "flops_per_image" not in kept:
        kept["flops_per_image"] = run(Contestant("ours.py", variant="flops"), workload, data, 60, envs)[
            "flops_per_image"
        ]
        peak = subprocess.run([sys.executable, str(HERE / "peak.py")], capture_output=True, text=True, check=True)
        kept["peak_gflops"] = json.loads(peak.stdout)
    if "profile" not in kept:
        variants = {"fp32": "profile"} | ({"bf16": "profile-bf16"} if machine()["bf16"] else {})
        kept["profile"] = {
            k: run(Contestant("ours.py", variant=v), workload, data, 60, envs) for k, v in variants.items()
        }
        keep_result(file, kept)
    taking_part = {k: c for k, c in CONTESTANTS.items() if workload in c.workloads}
    while (done := min((len(kept["runs"].get(k, [])) for k in taking_part), default=0)) < rounds:
        for name, contestant in taking_part.items():
            if len(kept["runs"].get(name, [])) > done:
                continue
            result = run(contestant, workload, data, seconds, envs)
            kept["runs"].setdefault(name, []).append(result)
            keep_result(file, kept)
            shown = result.get("missing") or f"{result['images_per_second']:.0f} images/s"
            print(workload, f"round {done + 1}/{rounds}", name, shown, flush=True)


def profile() -> str:
    """Markdown: milliseconds of a round of ours by kind of operator, and what lies between operators."""
    files = [RESULTS / f"{w}.json" for w in WORKLOADS if (RESULTS / f"{w}.json").exists()]
    found = [
        (kept["workload"], kept["profile"])
        for kept in map(json.loads, (f.read_text() for f in files))
        if "profile" in kept
    ]
    if not found:
        return "Not measured yet: `make bench` does."
    kinds = next(list(p["parts"]) for _, precisions in found for p in precisions.values() if "parts" in p)
    columns = ["milliseconds", "with the profiler", *kinds, "between them"]
    lines = ["| workload | | " + " | ".join(columns) + " |", "| --- | --- |" + " ---: |" * len(columns)]
    for workload, precisions in found:
        for precision, p in precisions.items():
            if "missing" in p:
                lines.append(f"| {workload} | {precision} | missing: {p['missing']} |" + " |" * (len(columns) - 1))
                continue
            values = [p["milliseconds"], p["watched"], *p["parts"].values()]
            values.append(max(0.0, p["watched"] - sum(p["parts"].values())))
            lines.append(f"| {workload} | {precision} | " + " | ".join(f"{v:.1f}" for v in values) + " |")
    return "\n".join(lines)


def ratios(runs: dict[str, list[dict[str, Any]]], ours: str, peer: str) -> list[float]:
    """Ours over the peer's images per second, round by round."""
    return [
        a["images_per_second"] / b["images_per_second"]
        for a, b in zip(runs[ours], runs[peer], strict=False)
        if "missing" not in a and "missing" not in b
    ]


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""


def table() -> str:
    """Markdown: medians, and ratios of paired runs with their range (of seven rounds a 98 % interval of the median)."""
    files = [RESULTS / f"{w}.json" for w in WORKLOADS if (RESULTS / f"{w}.json").exists()]
    if not files:
        return "Not measured yet: `make bench` does."
    columns = (
        "paired runs",
        "images/s",
        "latentforge's speed / this row's",
        "latentforge bf16's speed / this row's",
        "share of peak",
        "memory, MB",
        "first step, s",
    )
    lines = ["| workload | | " + " | ".join(columns) + " |", "| --- | --- |" + " ---: |" * len(columns)]
    for kept in (json.loads(f.read_text()) for f in files):
        for name, runs in kept["runs"].items():
            good = [r for r in runs if "missing" not in r]
            if not good:
                lines.append(f"| {kept['workload']} | {name} | 0 | missing: {runs[0]['missing']} | | | | | |")
                continue
            rate, memory, first = (
                statistics.median(r[k] for r in good)
                for k in ("images_per_second", "peak_memory_mb", "first_step_seconds")
            )
            kind = "bfloat16" if "bf16" in name else "float32"
            share = rate * kept["flops_per_image"] / 1e9 / max(kept["peak_gflops"][kind].values())
            pairs = [
                "" if ours == name or ours not in kept["runs"] else spread(ratios(kept["runs"], ours, name))
                for ours in ("latentforge", "latentforge, bf16")
            ]
            lines.append(
                f"| {kept['workload']} | {name} | {len(good)} | {rate:,.0f} | {pairs[0]} | {pairs[1]} | {share:.0%} | "
                f"{memory:.0f} | {first:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"some of {', '.join(WORKLOADS)}; all without any")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=15.0, help="timed part of a run")
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "latentforge-bench")
    parser.add_argument("--data-dir", help="where MNIST lies")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.table or options.profile:
        print(table() if options.table else profile())
        return
    if unknown := set(options.workloads) - set(WORKLOADS):
        parser.error(f"there is no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    import numpy as np

    import latentforge as lf

    train = lf.open_data("mnist", data_dir=options.data_dir).train
    images = np.concatenate([(255 * b.image[:, 0]).round().byte().numpy() for b in train.batches(1000)])
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mnist.npz"
        np.savez(data, images=images)
        for workload in options.workloads or WORKLOADS:
            measure(workload, options.rounds, options.seconds, options.envs, data)


if __name__ == "__main__":
    main()
