"""Two processes on one machine (gloo) train like one: the same weights as a single process, equal on both."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import Image

import latentforge as lf
from conftest import tiny_data
from latentforge import distributed
from latentforge.cli import main
from latentforge.data import Dataset, Images, named, open_data
from latentforge.data.together import PARTS, open_together, received
from latentforge.distributed import each, sharing_work
from latentforge.errors import InputError, RunError
from latentforge.files import cache
from latentforge.game import Game
from latentforge.run import Run
from latentforge.train import Trainer

if not sys.platform.startswith("linux"):
    pytest.skip("starts processes from a fork server, over the loopback of Linux", allow_module_level=True)

SHAPE = (1, 8, 8)
MODELS = {
    "vae": {"net": "mlp", "hidden": (8,), "latent_dim": 3},
    "gan": {"hidden": (8,), "critic_hidden": (8,), "latent_dim": 3},
    "vae-gan": {"net": "mlp", "critic_net": "mlp", "hidden": (8,), "latent_dim": 3},
    "larsen-vae-gan": {"net": "mlp", "hidden": (8,), "latent_dim": 3, "margin": 0.01},
}


# children are forked from a server that has imported torch
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch._dynamo", "sklearn.mixture", "latentforge.api", "pytest"])


def rank_of(number: int, world: int, port: int, folder: str, work: Callable, arguments: tuple) -> None:
    """One process of the group: does its work, and leaves what it returns or raises in a file."""
    os.environ |= {
        "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    sys.stdout = sys.stderr = open(Path(folder) / f"log-{number}", "a", buffering=1)  # noqa: SIM115
    torch.set_num_threads(1)
    try:
        result = work(*arguments)
    except RunError as error:
        result = {"RunError": str(error)}
    torch.save(result, Path(folder) / f"result-{number}")


def free_port() -> int:
    """Below the ports that a system gives to whoever asks for any, as servers of other tests do before the group has it."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def start(folder: Path, work: Callable, *arguments: object, world: int = 2) -> list:
    """The processes of a fresh group at work."""
    rest = (world, free_port(), str(folder), work, arguments)
    group = [processes.Process(target=rank_of, args=(i, *rest), daemon=True) for i in range(world)]
    for process in group:
        process.start()
    return group


def finish(folder: Path, group: list) -> list:
    """What each process returned."""
    limit = time.monotonic() + 180
    for process in group:
        process.join(max(0.0, limit - time.monotonic()))
    late = [process for process in group if process.is_alive()]
    for process in late:
        process.kill()
    logs = [(folder / f"log-{i}").read_text() for i in range(len(group))]
    assert not late, ["not ended", *logs]
    assert [p.exitcode for p in group] == [0] * len(group), logs
    return [torch.load(folder / f"result-{i}") for i in range(len(group))]


def together(folder: Path, work: Callable, *arguments: object) -> list:
    return finish(folder, start(folder, work, *arguments))


def trained(names: list[str], **options) -> dict[str, dict[str, torch.Tensor]]:
    """State of each model after a short run."""
    options = {
        "examples": 160,
        "batch_size": 16,
        "optimizer": "sgd",
        "lr": 1e-3,
        "precision": "fp32",
        "quiet": True,
    } | options
    return {
        name: lf.fit(name, tiny_data(SHAPE), model_options=MODELS[name], **options).state_dict()  # type: ignore[arg-type]
        for name in names
    }


def check_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_two_processes_end_like_one(tmp_path):
    """Whole batches are cut in two; every model's weights, averages and gates come out as in one process."""
    names = list(MODELS)
    first, second = together(tmp_path, trained, names)
    alone = trained(names)
    start_of = {n: lf.fit(n, tiny_data(SHAPE), model_options=MODELS[n], examples=1, batch_size=2, lr=1e-30, quiet=True)
                for n in names}  # fmt: skip
    for name in names:
        check_same(first[name], second[name])
        for key, value in alone[name].items():
            torch.testing.assert_close(first[name][key], value, rtol=1e-4, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")
        before = start_of[name].state_dict()
        moved = max(float((value - before[k]).abs().max()) for k, value in alone[name].items())
        assert moved > 1e-3  # much more than the tolerance


def test_accumulated_parts_on_each_process(tmp_path):
    first, second = together(tmp_path, four_parts)
    alone = trained(["vae"])["vae"]
    check_same(first, second)
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-6)


def four_parts() -> dict[str, torch.Tensor]:
    return trained(["vae"], accumulate=2)["vae"]


def against_the_clock() -> dict[str, torch.Tensor]:
    return trained(["vae"], examples=None, minutes=0.04, schedule="linear", optimizer="adam")["vae"]


def test_the_clock_of_a_minutes_budget_is_the_same_on_all(tmp_path):
    """A learning rate that follows each process's own clock would let the weights drift apart."""
    check_same(*together(tmp_path, against_the_clock))


class Parts(Game):
    """Two linear layers; which of them moves, or has a gradient at all, depends on the process."""

    name = "parts"

    def __init__(self, moody: bool):
        super().__init__()
        torch.manual_seed(0)
        self.image_shape, self.latent_dim, self.moody = SHAPE, 2, moody
        self.body, self.extra = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)

    def players(self):
        return {"body": [self.body], "extra": [self.extra]} if self.moody else {"both": [self.body, self.extra]}

    def play(self, data, t):
        x = next(data).image.flatten(1)
        y = self.body(x)
        if self.moody:
            yield {"extra" if t.part else "body": (y + self.extra(x)).square().mean()}
        else:
            yield {"both": (y + (self.extra(x) if t.part else 0)).square().mean()}

    def evaluate(self, batch):
        return {"mean": batch.image.flatten(1).mean(1)}


def played(moody: bool) -> dict[str, torch.Tensor]:
    game = Parts(moody)
    Trainer(game, tiny_data(SHAPE), examples=64, batch_size=16, quiet=True).fit()
    return game.state_dict()


def test_processes_that_make_different_moves_are_an_error(tmp_path):
    for result in together(tmp_path, played, True):
        assert "different moves" in result["RunError"]
        assert "\n" not in result["RunError"]


def test_a_parameter_with_a_gradient_on_one_process_moves_on_all(tmp_path):
    first, second = together(tmp_path, played, False)
    check_same(first, second)
    assert not torch.equal(first["extra.weight"], Parts(False).extra.weight)


def test_what_is_told_of_gradients_goes_from_processor_to_processor(monkeypatch):
    """In one tensor with the gradients it would have to be waited for on a GPU, at every move."""
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda x: sent.append(x.clone()))
    a, b = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))
    found = distributed.average_gradients({"one": [torch.ones(3), None]}, {"one": [a, b], "two": [a]}, 1)
    assert sent[0][2:].tolist() == [1, 0, 0]
    assert sent[1].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert torch.equal(found["one"][0], torch.ones(3))
    assert found["one"][1] is None


def built_by_hand() -> dict[str, torch.Tensor]:
    torch.manual_seed(distributed.rank())
    model = lf.create("vae", image_shape=SHAPE, **MODELS["vae"])
    how = {"examples": 32, "batch_size": 16, "optimizer": "sgd", "lr": 1e-3, "precision": "fp32", "quiet": True}
    return lf.fit(model, tiny_data(SHAPE), **how).state_dict()


def test_a_model_built_by_hand_begins_alike_on_all(tmp_path):
    """Each process draws its own first weights, and those of the first are taken."""
    first, second = together(tmp_path, built_by_hand)
    check_same(first, second)
    for key, value in built_by_hand().items():
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-6)


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="this machine has 2"):
        distributed.local_device(torch.device("cuda"))


def test_one_gpu_is_not_for_several_processes(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.local_device(torch.device("cuda", 0)).index == 0  # one process on each machine
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="cannot train on cuda:0; give --device cuda"):
        distributed.local_device(torch.device("cuda", 0))


TRAIN = ["train", "vae", "--data", "mnist-5k", "--net", "mlp", "--hidden", "8", "--latent-dim", "3", "--optimizer", "sgd",
         "--lr", "1e-4", "--examples", "19200", "--batch-size", "64", "--checkpoint-every", "640"]  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, torch.Tensor]:
    """What one process trains."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert main([*TRAIN, "--out", str(run), "--quiet"]) == 0
    return lf.load(run).state_dict()


def called(*arguments: str) -> int:
    return main(list(arguments))


def test_the_command_under_two_processes(alone, tmp_path):
    """One run directory, written by the first process; a signal to the other stops both after a checkpoint; `resume`
    ends where one process would have."""
    run = tmp_path / "run"
    group = start(tmp_path, called, *TRAIN, "--out", str(run))
    limit = time.monotonic() + 300
    while len(list(run.glob("checkpoints/round-*"))) < 2:
        assert time.monotonic() < limit
        assert all(p.is_alive() for p in group), (tmp_path / "log-0").read_text()
        time.sleep(0.005)
    os.kill(group[1].pid, signal.SIGTERM)
    assert finish(tmp_path, group) == [130, 130]
    assert not (run / "model").exists()
    assert finish(tmp_path, start(tmp_path, called, "resume", str(run))) == [0, 0]
    rounds = [(r["round"], "validation/reconstruction_nats" in r) for r in Run.open(run).stats() if "finding" not in r]
    assert rounds == sorted(set(rounds))
    assert rounds[-1] == (300, True)
    assert json.loads((run / "metrics.json").read_text())["training"]["examples"] == 19200
    assert (tmp_path / "log-0").read_text().count("report ") == 1
    assert "report" not in (tmp_path / "log-1").read_text()
    found = lf.load(run).state_dict()
    for key, value in alone.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5)


def opened(folder: str) -> dict:
    """What a process is given of a folder, or told; it scribbles on its pixels, which nobody else must see."""
    try:
        data = open_together(folder, image_size=8)
    except InputError as error:
        return {"error": str(error)}
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    out = {"classes": data.classes, "notes": data.notes, "fingerprint": data.fingerprint}
    out |= {name: (part.pixels.clone(), part.labels) for name, part in parts.items()}
    data.train.pixels.zero_()
    return out


def test_processes_share_the_images_that_one_of_them_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(40):
        file = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((9, 12), 50 + i).save(file)
    alone = open_data(str(tmp_path / "images"), image_size=8)
    for told in together(tmp_path, opened, str(tmp_path / "images")):
        assert (told["classes"], told["notes"], told["fingerprint"]) == (alone.classes, alone.notes, alone.fingerprint)
        for name in ("train", "validation", "test"):
            pixels, labels = told[name]
            assert torch.equal(pixels, getattr(alone, name).pixels)
            assert torch.equal(labels, getattr(alone, name).labels)
    assert not list(cache().glob("images-*"))
    errors = [r["error"] for r in together(tmp_path, opened, str(tmp_path / "nowhere"))]
    assert errors[0] == errors[1]
    assert "nowhere" in errors[0]


def opened_apart(folder: str) -> dict:
    """As `opened`, on a machine of its own that has a folder of its own."""
    os.environ |= {"LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    return opened(f"{folder}/{distributed.rank()}")


def test_machines_must_have_the_same_images(tmp_path):
    for machine, n in ((0, 20), (1, 19)):
        for i in range(n):
            file = tmp_path / "images" / str(machine) / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((9, 12), 50 + i).save(file)
    first, second = together(tmp_path, opened_apart, str(tmp_path / "images"))
    assert "20 here, 19 elsewhere" in first["error"]
    assert "19 here, 20 elsewhere" in second["error"]
    shutil.rmtree(tmp_path / "images" / "1")
    first, second = together(tmp_path, opened_apart, str(tmp_path / "images"))
    assert "another process: " in first["error"]
    assert first["error"].endswith(second["error"])
    shutil.copytree(tmp_path / "images" / "0", tmp_path / "images" / "1")
    first, second = together(tmp_path, opened_apart, str(tmp_path / "images"))
    assert first["fingerprint"] == second["fingerprint"]


def strict_about_memory() -> bool:
    return Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2"


@pytest.mark.skipif(strict_about_memory(), reason="this system promises no memory that it has not got")
def test_what_processes_share_may_be_larger_than_memory(tmp_path):
    kinds = ("MemTotal", "SwapTotal")
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(kinds))
    n = sum(int(line[1]) for line in lines) * 1024 // 64 + 2**24  # a GiB beyond what there is
    with open(tmp_path / "images", "wb") as f:
        f.truncate(64 * n)  # takes no disk
    bare = Dataset("x", "x", *(Images(torch.zeros(0, *SHAPE, dtype=torch.uint8)) for _ in PARTS))
    found = received(tmp_path / "images", bare, dict.fromkeys(PARTS, (0, (n, *SHAPE), "uint8")), "f")
    assert len(found.train) == n
    found.train.pixels[-1] += 1
    assert int(found.train.pixels[-1].sum()) == 64
    assert found.fingerprint == "f"


def test_torchrun_starts_again_what_was_killed(alone, tmp_path):
    """One of two processes is killed without warning; both start again, from the checkpoint, and end where an undisturbed
    run does."""
    run = tmp_path / "run"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(tmp_path / "log", "w") as log:
        command = [sys.executable, *torchrun, "-m", "latentforge", *TRAIN, "--quiet", "--out", str(run)]
        agent = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        limit = time.monotonic() + 300
        while len(list(run.glob("checkpoints/round-*"))) < 2:
            assert time.monotonic() < limit
            assert agent.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.005)
        before = (run / "stats.jsonl").read_text().splitlines()
        os.kill(second_of(agent.pid), signal.SIGKILL)
        assert agent.wait(300) == 0, (tmp_path / "log").read_text()
    after = (run / "stats.jsonl").read_text().splitlines()
    assert after[0] == before[0]  # the seconds of a row tell one run from another
    rounds = [(r["round"], "validation/reconstruction_nats" in r) for r in Run.open(run).stats() if "finding" not in r]
    assert rounds == sorted(set(rounds))
    assert rounds[-1] == (300, True)
    found = lf.load(run).state_dict()
    for key, value in alone.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5)


def second_of(agent: int) -> int:
    """The process of rank 1 among the children of `torchrun`."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return next(int(p) for p in children if b"\0RANK=1\0" in Path(f"/proc/{p}/environ").read_bytes())


def test_what_may_start_again_must_be_found_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "vae", "--data", "mnist-5k", "--examples", "64"]) == 2
    assert "--out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_evaluation_is_shared_out_and_ends_the_same(tmp_path, capsys):
    run = tmp_path / "run"
    size = ["--net", "mlp", "--hidden", "8", "--latent-dim", "3", "--examples", "640", "--quiet"]
    assert main(["train", "vae", "--data", "mnist-5k", *size, "--out", str(run)]) == 0
    evaluate = ["evaluate", str(run), "--metrics", "own,samples,nll", "--repeats", "0", "--json"]
    capsys.readouterr()
    assert main(evaluate) == 0
    alone = json.loads(capsys.readouterr().out)
    assert finish(tmp_path, start(tmp_path, called, *evaluate, world=3)) == [0, 0, 0]
    printed = [(tmp_path / f"log-{i}").read_text() for i in range(3)]
    shared = json.loads(printed[0])
    assert not printed[1] + printed[2]
    assert [row["measure"] for row in shared] == [row["measure"] for row in alone]
    for mine, theirs in zip(alone, shared, strict=True):
        assert theirs["value"] == pytest.approx(mine["value"], rel=1e-5)  # threads differ


def shares() -> list[int]:
    """What this process does itself, of seven pieces."""
    done: list[int] = []
    with sharing_work():
        assert each("abcdefg", lambda i, x: (done.append(i), x * i)[1]) == [x * i for i, x in enumerate("abcdefg")]
    return done


def test_work_is_divided(tmp_path):
    assert together(tmp_path, shares) == [[0, 2, 4, 6], [1, 3, 5]]


def test_images_are_read_once_where_a_run_goes_on(tmp_path, monkeypatch):
    size = ["--net", "mlp", "--hidden", "8", "--latent-dim", "3", "--examples", "640", "--quiet", "--data", "mnist-5k"]
    train = ["train", "vae", *size, "--out", str(tmp_path / "run")]
    assert main(train) == 0
    read, load = [], named.load
    monkeypatch.setattr(named, "load", lambda *what: (read.append(what), load(*what))[1])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert main(train) == 0
    assert len(read) == 1


def test_another_run_is_not_taken_for_the_one_that_died(tmp_path, monkeypatch, capsys):
    """A directory that was there before the first attempt makes that one fail; the second must not go on with it."""
    run, size = (
        tmp_path / "run",
        ["--net", "mlp", "--hidden", "8", "--examples", "640", "--quiet", "--data", "mnist-5k"],
    )
    assert main(["train", "vae", *size, "--latent-dim", "3", "--out", str(run)]) == 0
    before = (run / "stats.jsonl").read_bytes()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    capsys.readouterr()
    assert main(["train", "vae", *size, "--latent-dim", "4", "--out", str(run)]) == 2
    assert "holds another run (model differs)" in capsys.readouterr().err
    assert main(["train", "vae", *size, "--latent-dim", "3", "--lr", "1e-5", "--out", str(run)]) == 2
    assert (run / "stats.jsonl").read_bytes() == before
    assert main(["train", "vae", *size, "--latent-dim", "3", "--out", str(run)]) == 0
