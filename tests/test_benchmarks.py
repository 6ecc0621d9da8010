"""Every cell of the zoo trains, is measured and gets its row; the long form is `make zoo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import critic_loss
import density
import machine
import torch
import yaml
import zoo

import latentforge as lf
from latentforge.cli import main
from latentforge.registry import MODELS
from latentforge.tasks.compress import fingerprint


@pytest.mark.parametrize("cell", list(zoo.CELLS))
def test_a_cell_of_the_zoo(cell, tmp_path):
    result = zoo.measure(cell, "mnist-5k", ["--examples", "256"], None, tmp_path / "zoo", inside=True)
    assert (tmp_path / "zoo" / f"{cell}.json").exists()
    assert any(name.startswith("coverage") for name in result["test"]), "nothing was said of its samples"
    row = zoo.table({cell: result}).splitlines()[2]
    assert row.startswith(f"| `{zoo.CELLS[cell]}` |")
    assert row.count("|") == zoo.table({cell: result}).splitlines()[0].count("|")


def test_every_model_is_in_the_zoo():
    """But for restorers, which have a benchmark of their own."""
    drawing = {name for name, row in MODELS.items() if row.kind != "restorer"}
    assert {command.split()[0] for command in zoo.CELLS.values()} == drawing


@pytest.mark.parametrize("workload", ["conv-vae", "dense-vae", "dcgan", "vae-gan"])
def test_contestants_train_the_same_networks(workload, monkeypatch):
    """Parameter by parameter, but for where they lie: a contest of different networks says nothing."""
    monkeypatch.syspath_prepend(str(Path(zoo.__file__).parent / "speed"))
    import networks
    import ours

    command = [str(a) for a in ours.COMMANDS[workload]]
    model = lf.create(command[0], image_shape=(1, 28, 28), **{
        k.removeprefix("--").replace("-", "_"): int(v) if v.isdecimal() else v
        for k, v in zip(command[1::2], command[2::2], strict=True) if k in ("--net", "--latent-dim", "--width")
    } | ({"hidden": (400,)} if "--hidden" in command else {}))  # fmt: skip
    theirs = networks.WORKLOADS[workload]()
    assert sorted(p.numel() for p in model.parameters()) == sorted(
        p.numel() for n in theirs.values() for p in n.parameters()
    )
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)

    def layers(module):
        return [
            (type(m).__name__, tuple(m.weight.shape), getattr(m, "stride", 0), getattr(m, "padding", 0))
            for m in module.modules() if isinstance(m, kinds)
        ]  # fmt: skip

    for name, net in theirs.items():
        assert layers(net) == layers(getattr(model, name)), name


def test_uses_are_shown_beside_the_best_baseline(tmp_path, monkeypatch):
    """Every use with results that are written here, and none without."""
    import uses

    kept = {
        **{
            f"detect/one/mnist-{k}": {"auroc": {"detector": 0.9, "PCA-32": 0.5, "isolation forest": 0.75}}
            for k in range(10)
        },
        **{f"detect/one/fashion-mnist-{k}": {"auroc": {}} for k in range(9)},  # one is missing
        "fewlabels/100/ssl-gan-draw0": {
            "test_error": 0.02,
            "baselines": {"1-nn": 0.2, "logistic": 0.3, "spreading": 0.1},
        },
        "restore/mnist/noise-0.5": {"linear": {"psnr": 17.0}, "restorer": {"psnr": 21.0}},
        "classify/mnist-cvae": {"accuracy": 0.98},
        "classify/mnist-gaussian": {"accuracy": 0.95},
        "finetune/vae-encoder": {"rows": [{"labels": 100, "pretrained": 0.1, "random": 0.15}]},
    }
    for name, result in kept.items():
        file = tmp_path / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result))
    for module in (uses.detect, uses.fewlabels, uses.restore, uses.classify, uses.finetune):
        monkeypatch.setattr(module, "RESULTS", tmp_path / module.RESULTS.name)
    rows = [row.split(" | ")[2:] for row in uses.table().splitlines()[2:]]
    assert rows == [
        ["0.900", "0.750 (isolation forest) |"], ["2.00%", "10.0% (label spreading on PCA-50) |"],
        ["21.0 dB", "17.0 dB (best linear) |"], ["98.0%", "95.0% (Gaussian per class) |"],
        ["10.0%", "15.0% (random weights) |"],
    ]  # fmt: skip


def test_a_table_says_which_rows_are_of_another_machine():
    a = {"processor": "A", "instructions": "AVX2", "bf16": False, "threads": 1}
    b = {"processor": "B", "bf16": True, "threads": 2}
    assert machine.where({"x": [a, a], "y": [a]}) == ""
    assert (
        machine.where({"x": [a], "y": [b, a], "z": []})
        == "\n\nNot all on one machine: x, y on A AVX2; y on B bf16 2 threads."
    )
    assert machine.machine()["processor"]


def test_cells_of_one_table_share_their_critic(tmp_path, monkeypatch):
    model = lf.create("dcgan", image_shape=(1, 16, 16), width=4)
    model.save_pretrained(str(tmp_path / "critic"))
    results = tmp_path / "results"
    results.mkdir()
    (results / "pixels-seed0.json").write_text(json.dumps({"fingerprint": fingerprint(model).hex()}))
    assert critic_loss.critic_at(tmp_path / "critic", None, results).name == "dcgan"
    (results / "pixels-seed1.json").write_text(json.dumps({"fingerprint": "00"}))
    with pytest.raises(SystemExit, match="another critic"):
        critic_loss.critic_at(tmp_path / "critic", None, results)


def test_the_preset_of_the_density_is_what_was_measured(capsys):
    def config(*words):
        assert main(["train", *words, "--dry-run"]) == 0
        return yaml.safe_load(capsys.readouterr().out)

    flags = density.CELLS["density"].split()
    flags[flags.index("--data") + 1] = "mnist-5k"
    measured, preset = config(*flags), config("--preset", "mnist/density", "--data", "mnist-5k")
    assert measured["model"] == preset["model"]
    assert measured["train"] | {"lr": float(measured["train"]["lr"])} == preset["train"]
