"""Runs that are killed, stopped, or run out of disk: each goes on and ends bit for bit like one that never was."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import latentforge as lf
from latentforge.cli import main
from latentforge.data.synthetic import blobs
from latentforge.run import Run

ROUNDS = {"vae": 300, "vae-gan": 100}
SOURCE = {"vae": "mnist-5k"}  # and a file of few images for the vae-gan, which fits a sampler
BATCH, EVERY = 32, 10  # a checkpoint every EVERY rounds
HELD = 150  # the round whose checkpoint a child that is to be held waits with
SIZE = ["--net", "mlp", "--hidden", "16", "--latent-dim", "3"]
BUDGET = ["--batch-size", str(BATCH), "--checkpoint-every", str(EVERY * BATCH)]
ARGUMENTS = [*SIZE, *BUDGET, "--quiet"]

# children are forked from a server that has imported torch, which takes longer than the runs
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch._dynamo", "sklearn.mixture", "latentforge.api", "pytest"])


def command(log: str, *arguments: str) -> None:
    """A child that runs a command on one thread, its output in a file."""
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115
    torch.set_num_threads(1)
    sys.exit(main(list(arguments)))


def held_command(log: str, go: str, *arguments: str) -> None:
    """The same, but with the checkpoint of round HELD it leaves a file `held` and waits for the file `go` beside it: rounds are
    so short that no one could be sure to catch it in the middle."""
    save = Run.save_checkpoint

    def save_and_wait(self: Run, tensors: dict, state: dict, keep: int = 2) -> None:
        save(self, tensors, state, keep)
        if state["round"] >= HELD:
            Path(go).with_name("held").touch()
            while not Path(go).exists():
                time.sleep(0.001)

    Run.save_checkpoint = save_and_wait  # type: ignore[method-assign]
    command(log, *arguments)


def go_on(log: str, run: str) -> None:
    """A child that resumes a run as the command does, without drawing the report, which takes longer than the rest."""
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115
    torch.set_num_threads(1)
    lf.resume(run, quiet=True)


class Child:
    """A process that works on a run; what it says is in `RUN/../../RUN.log`, so that a full disk does not hide it."""

    started: ClassVar[list[Child]] = []

    def __init__(self, target: Callable, run: Path, *arguments: str):
        self.run, self.log = run, run.parent.parent / f"{run.parent.name}-{run.name}.log"
        self.process = processes.Process(target=target, args=(str(self.log), *arguments), daemon=True)
        self.process.start()
        self.started.append(self)

    def wait_until(self, condition: Callable[[], object], seconds: float = 300) -> bool:
        """Watch closely until the condition holds; False where the process ended first."""
        limit = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < limit, self.text()
            if not self.process.is_alive():
                return bool(condition())
            model_is_whole_or_absent(self.run)
            time.sleep(0.0002)
        return True

    def send(self, number: int) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def end(self) -> int | None:
        self.process.join(300)
        return self.process.exitcode

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


def end_children() -> None:
    for child in Child.started:
        child.send(signal.SIGKILL)
        child.end()
    Child.started.clear()


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    yield
    end_children()


def training(run: Path, model: str = "vae") -> list[str]:
    examples = str(ROUNDS[model] * BATCH)
    return ["train", model, "--data", SOURCE[model], *ARGUMENTS, "--examples", examples, "--out", str(run)]


def train(run: Path, model: str = "vae") -> Child:
    return Child(command, run, *training(run, model))


def train_and_hold(run: Path) -> tuple[Child, Path]:
    """A child that waits in the middle of its training, and the file that lets it go on."""
    go = run.parent / "go"
    child = Child(held_command, run, str(go), *training(run))
    assert child.wait_until(lambda: go.with_name("held").exists()), child.text()
    assert newest(run) == HELD
    return child, go


def resume(run: Path) -> Child:
    return Child(go_on, run, str(run))


def newest(run: Path) -> int:
    """The round of the newest checkpoint, -1 where there is none."""
    return max((int(p.stem.split("-")[1]) for p in run.glob("checkpoints/round-*")), default=-1)


def writing(run: Path, pattern: str) -> bool:
    return any(run.glob(pattern))


def model_is_whole_or_absent(run: Path) -> None:
    if (run / "model").exists():
        assert {p.name for p in (run / "model").iterdir()} >= {"config.json", "model.safetensors", "README.md"}
        assert load_file(run / "model" / "model.safetensors")


def digest(run: Path) -> str:
    """sha256 of the finished model's tensors."""
    sha = hashlib.sha256()
    for name, tensor in sorted(load_file(run / "model" / "model.safetensors").items()):
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode() + tensor.numpy().tobytes())
    return sha.hexdigest()


def logged(run: Path) -> list[tuple[int, bool]]:
    """(round, whether it holds validation measures) of every row."""
    rows = [r for r in Run.open(run).stats() if "finding" not in r]
    return [(r["round"], any(k.startswith("validation/") for k in r)) for r in rows]


def findings(run: Path) -> list[tuple[int, str]]:
    return [(r["round"], r["finding"]) for r in Run.open(run).stats() if "finding" in r]


def check_equal(run: Path, whole: Path) -> None:
    """The same weights, the same rows in the same order, the same pictures, and no leftovers."""
    assert digest(run) == digest(whole)
    assert logged(run) == sorted(set(logged(run))) == logged(whole)
    assert findings(run) == findings(whole)
    assert sorted(p.name for p in run.glob("previews/*")) == sorted(p.name for p in whole.glob("previews/*"))
    for picture in whole.glob("previews/*"):
        assert (run / "previews" / picture.name).read_bytes() == picture.read_bytes()
    assert [str(p) for p in run.rglob(".*")] == []
    assert len(list(run.glob("checkpoints/round-*"))) == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    """Runs that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    SOURCE["vae-gan"] = str(folder / "few.npz")
    np.savez(SOURCE["vae-gan"], images=blobs(400, (1, 12, 9))[0][:, 0])
    children = {name: train(folder / name, name) for name in ("vae", "vae-gan")}
    for name, child in children.items():
        assert child.end() == 0, child.text()
        assert logged(folder / name)[-1] == (ROUNDS[name], True)
    return {name: folder / name for name in children}


def kill_and_resume(run: Path, model: str, kills: int, seed: int) -> int:
    """Train, with `kill -9` at random moments spread over the run, every other one while a checkpoint is being written
    and a last one while the model is. Returns how many hit a living process."""
    rng = random.Random(seed)
    hits = 0
    child = train(run, model)
    for i in range(kills):
        target = int((i + rng.random()) / kills * 0.9 * ROUNDS[model])
        child.wait_until(lambda target=target: newest(run) >= target - EVERY)
        if i % 2:
            child.wait_until(lambda: writing(run, "checkpoints/.*"))
        else:
            time.sleep(rng.uniform(0, 0.03))
        child.send(signal.SIGKILL)
        hits += child.end() == -signal.SIGKILL
        model_is_whole_or_absent(run)
        child = resume(run) if (run / "config.yaml").exists() else train(run, model)
    child.wait_until(lambda: writing(run, ".model.*.part"))
    child.send(signal.SIGKILL)
    hits += child.end() == -signal.SIGKILL
    model_is_whole_or_absent(run)
    child = resume(run)
    assert child.end() == 0, child.text()
    assert "Traceback" not in child.text()
    return hits


def need(hits: int) -> None:
    """A kill has to come within milliseconds: a parent that is not scheduled then may miss the child."""
    if hits < 2:
        pytest.skip(f"{hits} kills hit a living process: this machine is too busy")


def test_killed_five_times_ends_bit_identical(whole, tmp_path):
    hits = kill_and_resume(tmp_path / "run", "vae", kills=5, seed=1)
    check_equal(tmp_path / "run", whole["vae"])
    need(hits)


def test_a_killed_vae_gan_ends_bit_identical(whole, tmp_path):
    hits = kill_and_resume(tmp_path / "run", "vae-gan", kills=2, seed=2)
    check_equal(tmp_path / "run", whole["vae-gan"])
    need(hits)


def test_a_run_in_training_is_left_alone(whole, tmp_path, capsys):
    run = tmp_path / "run"
    child, go = train_and_hold(run)
    before = sorted(p.name for p in run.rglob("*"))
    assert main(["resume", str(run), "--minutes", "9"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"latentforge: {run} is in training in another process; wait for that, or stop it."
    )
    assert sorted(p.name for p in run.rglob("*")) == before
    go.touch()
    assert child.end() == 0, child.text()
    check_equal(run, whole["vae"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_writes_a_checkpoint(whole, tmp_path, number):
    run = tmp_path / "run"
    child, go = train_and_hold(run)
    child.send(number)
    go.touch()
    assert child.end() == 130
    stopped = newest(run)
    (last,) = [line for line in child.text().splitlines() if not line.startswith("warning: ")]
    assert last == (
        f"latentforge: stopped at round {stopped}; its checkpoint is written; continue with 'latentforge resume {run}'"
    )
    assert HELD <= stopped < ROUNDS["vae"]
    assert not (run / "model").exists()
    again = Child(command, run, "resume", str(run), "--quiet")
    assert again.end() == 0, again.text()
    check_equal(run, whole["vae"])


def test_a_truncated_checkpoint_is_passed_over(whole, tmp_path):
    run = tmp_path / "run"
    child, _ = train_and_hold(run)
    child.send(signal.SIGKILL)
    child.end()
    older, newer = sorted(run.glob("checkpoints/round-*"))[-2:]
    newer.write_bytes(newer.read_bytes()[: newer.stat().st_size // 2])
    again = resume(run)
    assert again.end() == 0, again.text()
    going_back = f"going back to round {int(older.stem.split('-')[1])}"
    assert f"warning: checkpoint {newer.name} cannot be read; {going_back}" in again.text()
    check_equal(run, whole["vae"])


class Disk:
    """A place that can be filled up: a small file system of its own where that may be mounted, else a limit on the size
    of the child's files."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
        try:
            self.mounted = subprocess.run(mounting, capture_output=True).returncode == 0
        except OSError:
            self.mounted = False
        if not self.mounted and not hasattr(resource, "prlimit"):
            pytest.skip("neither mount nor prlimit")

    def fill(self, child: Child) -> None:
        if not self.mounted:
            self.limit(child, 20_000)  # enough for the log, and for no checkpoint
            return
        block = bytes(4096)
        try:
            with open(self.path / "filler", "ab", buffering=0) as f:
                while f.write(block):
                    pass
        except OSError:
            pass

    def free(self, child: Child) -> None:
        if self.mounted:
            (self.path / "filler").unlink()
        elif child.process.is_alive():
            self.limit(child, resource.RLIM_INFINITY)

    def limit(self, child: Child, size: int) -> None:
        assert child.process.pid is not None
        resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk")
    yield found
    end_children()  # one that is left keeps the file system busy
    found.close()


def fill_in_the_middle(disk: Disk, run: Path) -> tuple[Child, int]:
    """A run whose disk filled up after a few checkpoints, held still; and the newest checkpoint it has."""
    child = train(run)
    assert child.wait_until(lambda: newest(run) >= 3 * EVERY)

    def refused() -> bool:
        disk.fill(child)  # again and again: an older checkpoint that is dropped makes room
        return "checkpoint not written" in child.text()

    assert child.wait_until(refused), child.text()
    child.send(signal.SIGSTOP)
    kept = newest(run)
    assert child.process.is_alive()
    found = Run.open(run).load_checkpoint()
    assert found is not None
    assert (found[1]["round"], found[2]) == (kept, [])
    return child, kept


def test_a_full_disk_costs_checkpoints_and_not_the_run(whole, disk):
    run = disk.path / "run"
    child, kept = fill_in_the_middle(disk, run)
    disk.free(child)
    child.send(signal.SIGCONT)
    assert child.end() == 0, child.text()
    assert all(line.startswith(("warning: ", "run ", "model ", "pictures ", "report ", "next "))
               for line in child.text().splitlines())  # fmt: skip
    assert newest(run) == ROUNDS["vae"] > kept
    assert digest(run) == digest(whole["vae"])
    rounds = [r["round"] for r in Run.open(run).stats()]
    assert rounds == sorted(rounds)
    assert not [p for p in run.rglob(".*")]


def test_a_disk_that_stays_full_ends_the_run_with_one_line(whole, disk):
    run = disk.path / "run"
    child, _ = fill_in_the_middle(disk, run)
    child.send(signal.SIGCONT)
    assert child.end() == 1, child.text()
    assert child.text().count("checkpoint not written") == 1
    last = [line for line in child.text().splitlines() if not line.startswith("warning: ")]
    assert len(last) == 1, child.text()
    assert last[0].startswith("latentforge: ")
    assert not (run / "model").exists()
    disk.free(child)
    again = resume(run)
    assert again.end() == 0, again.text()
    check_equal(run, whole["vae"])
