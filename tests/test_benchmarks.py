"""Every cell of the zoo trains, is measured and gets its row; the long form is `make zoo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import critic_loss
import density
import doctor
import flagship
import machine
import modes
import numpy as np
import pictures
import presets
import torch
import yaml
import zoo
from PIL import Image

import latentforge as lf
from latentforge.cli import main
from latentforge.tasks.compress import fingerprint


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> str:
    """400 digits at half their size."""
    data = lf.open_data("mnist-5k").train
    rows = torch.cat([(data.labels == k).nonzero()[:40, 0] for k in range(10)])
    file = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(file, images=data.pixels[rows, 0, ::2, ::2].numpy(), labels=data.labels[rows].numpy())
    return str(file)


@pytest.mark.parametrize("cell", list(zoo.CELLS))
def test_a_cell_of_the_zoo(cell, digits, tmp_path):
    source = "mnist-5k" if cell == "vae" else digits
    result = zoo.measure(cell, source, ["--examples", "256"], None, tmp_path / "zoo", inside=True)
    assert (tmp_path / "zoo" / f"{cell}.json").exists()
    assert any(name.startswith("coverage") for name in result["test"]), "nothing was said of its samples"
    row = zoo.table({cell: result}).splitlines()[2]
    assert row.startswith(f"| `{zoo.CELLS[cell]}` |")
    assert row.count("|") == zoo.table({cell: result}).splitlines()[0].count("|")


def test_the_page_of_a_model_has_the_baselines_of_all(tmp_path, monkeypatch):
    """Cells measured at different times are held against different baselines; a page ends with both."""
    monkeypatch.setattr(zoo, "RESULTS", tmp_path)
    for cell, which in (("gan", "one Gaussian"), ("vae", "Gaussian per class")):
        row = {"value": 1.0, "baseline": len(which), "which": which, "reference": 0.5}
        result = {
            "model": cell,
            "parameters": {},
            "training": {"examples": 1},
            "digits": None,
            "test": {"frechet-x": row},
        }
        machine.keep_result(tmp_path / f"{cell}.json", result)
    rows = [line.split(" | ")[0] for line in zoo.page("gan").splitlines()[2:-2]]
    assert rows == ["| `gan`", "| trivial baseline (Gaussian per class)", "| trivial baseline (one Gaussian)",
                    "| real images; lower bound of the nats"]  # fmt: skip


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
            f"detect/one/mnist-{k}": {
                "auroc": {"detector": 0.9, "pixels": 0.95, "PCA-32": 0.5, "isolation forest": 0.75}
            }
            for k in range(10)
        },
        **{f"detect/one/fashion-mnist-{k}": {"auroc": {}} for k in range(9)},  # one is missing
        "fewlabels/100/ssl-gan-draw0": {
            "draw": 0,
            "test_error": 0.02,
            "baselines": {"1-nn": 0.2, "logistic": 0.3, "spreading": 0.1},
        },
        "restore/mnist/noise-0.5": {"linear": {"psnr": 17.0}, "restorer": {"psnr": 21.0}},
        **{
            f"compress/mnist-{codec}": {"points": [{"bits_per_pixel": 0.1, "mse": mse}]}
            for codec, mse in (("pca", 0.1), ("vae-32", 0.01), ("autoencoder-16", 0.001))
        },
        "classify/mnist-cvae": {"accuracy": 0.98},
        "classify/mnist-gaussian": {"accuracy": 0.95},
        "classify/mnist-neighbours": {"accuracy": 0.97},
        "classify/fashion-mnist-cvae": {"accuracy": 0.9},
        "classify/fashion-mnist-gaussian": {"accuracy": 0.8},
        "finetune/vae-encoder": {"rows": [{"labels": 100, "pretrained": 0.1, "random": 0.15}]},
        "finetune/dcgan-critic": {"rows": [{"labels": 90, "pretrained": 0.1, "random": 0.15}]},
    }
    for name, result in kept.items():
        file = tmp_path / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result))
    for module in (uses.detect, uses.fewlabels, uses.restore, uses.classify, uses.finetune, uses.compress):
        monkeypatch.setattr(module, "RESULTS", tmp_path / module.RESULTS.name)
    rows = [row.split(" | ")[2:] for row in uses.table().splitlines()[2:]]
    assert rows == [
        ["higher", "0.900", "**0.950** (nearest images in pixels) |"],
        ["lower", "**2.00%**", "10.00% (label spreading on PCA-50 of 10,000 images) |"],
        ["higher", "**21.0 dB**", "17.0 dB (best linear) |"],
        *[["higher", "**20.0 dB**", "10.0 dB (PCA, same coder) |"]] * 2,  # every second rate but the least
        ["higher", "**98.0%**", "97.0% (nearest neighbours in PCA-50) |"],
        ["higher", "**90.0%**", "80.0% (Gaussian per class) |"],
        ["lower", "10.0%", "10.0% (label spreading on PCA-50 of 10,000 images) |"],
        ["lower", "**10.0%**", "15.0% (random weights) |"],
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


def test_the_table_of_the_flagship_on_known_results(tmp_path, monkeypatch):
    """Means with their range over seeds, one value as it is, and the baseline of the first row below."""
    monkeypatch.setattr(flagship, "RESULTS", tmp_path)
    for cell, seed, value in (("vae-gan", 0, 1.0), ("vae-gan", 1, 3.0), ("vae", 0, 90.0)):
        test = {f"{m}-x": {"value": value, "baseline": 240.0, "reference": 0.5} for m in flagship.SHOWN[:-1]}
        test["reconstruction_mse"] = {"value": value / 100, "baseline": 0.1, "reference": 0.2}
        run = {"training": {"examples": 1000 * (seed + 1)}, "test": test, "machine": {"processor": "A", "family": "1"}}
        machine.keep_result(tmp_path / "mnist-5" / f"{cell}-{seed}.json", run)
    lines = flagship.table("mnist-5", measures=("frechet", "reconstruction_mse")).splitlines()
    assert lines[2:] == [
        "| `vae-gan` | 2 | 1,500 | 2 (1 to 3) | 0.02 (0.01 to 0.03) |", "| `vae` | 1 | 1,000 | 90 | 0.9 |",
        "| trivial baseline | | | 240 | 0.1 |", "| real images | | | 0.5 |  |",
    ]  # fmt: skip
    assert flagship.table("mnist-20").startswith("Not measured yet")


def test_the_picture_of_a_table_has_its_models_side_by_side_and_reconstructions_below():
    blue, red = Image.new("RGB", (20, 30), "blue"), Image.new("RGB", (20, 10), "red")
    page = pictures.sheet({"gan": [blue], "vae": [blue, red]})
    right, below = 20 + pictures.GAP, pictures.HEAD + 30 + pictures.GAP
    assert page.size == (right + 20, below + 10)
    assert [page.getpixel(at) for at in ((0, pictures.HEAD), (right, pictures.HEAD))] == [(0, 0, 255)] * 2
    assert [page.getpixel((x, below)) for x in (0, right)] == [(255, 255, 255), (255, 0, 0)]
    assert pictures.sheet({"gan": [blue]}).height == below  # nothing that encodes


def test_the_table_of_modes_says_of_how_many_runs_a_number_is(tmp_path, monkeypatch):
    monkeypatch.setattr(modes, "RESULTS", tmp_path)
    for seed, (kl, seconds) in enumerate(((None, 10), (0.5, 20), (1.5, 300))):
        run = {"modes": seed, "high_quality": 0.1 * seed, "reverse_kl": kl, "seconds": seconds, "sampler": "prior"}
        for name in modes.SETS:
            machine.keep_result(tmp_path / name / f"gan-seed{seed}.json", run)
    row = modes.table().splitlines()[2].split(" | ")
    assert row[1:6] == ["3", "prior", "1.0 (0 to 2)", "10.0 % (0.0 to 20.0)", "1.000 (2 of 3)"]
    assert row[-2:] == ["2,048,000", "20 |"]


def test_the_table_of_the_doctor_counts_what_the_rules_say(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "RESULTS", tmp_path)
    one, other = list(doctor.RULES)[:2]
    said = {"a": [one], "b": [other], "c": [], "d": [other], "e": []}
    for name in said:
        result = {"rule": one if name in "abc" else None, "name": name}
        machine.keep_result(tmp_path / "check" / f"{name}.json", result)
    monkeypatch.setattr(doctor, "findings", lambda result: said[result["name"]])
    rows = {line.split(" | ")[0]: line for line in doctor.table("check").splitlines()}
    assert rows[f"| {one}"] == f"| {one} | 3 | 1 | {other} | 1 | 0 |"
    assert rows[f"| {other}"] == f"| {other} | 0 | 0 |  | 0 | 1 |"
    assert rows["| all"] == "| all | 3 | 1 (33%) | | | 1 of 2 runs (50%) |"


def test_what_is_measured_elsewhere_is_known(monkeypatch):
    here = machine.machine()
    assert not machine.other(here)
    assert machine.other(here | {"family": "0 0"})
    assert machine.other(here | {"torch": "1.0"})
    assert not machine.other({k: v for k, v in here.items() if k != "family"})  # older results do not say


@pytest.mark.parametrize("name", sorted({*presets.presets.list_presets()} - {"mnist/density"}))  # density.py's
def test_a_preset_says_what_was_measured(name):
    assert presets.presets.load(name)["expected"] == presets.expected(name)
