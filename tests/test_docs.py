"""The documentation is true: README commands run, generated parts are current, every model and preset has its page."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge import presets, registry
from latentforge.cli import main
from latentforge.registry import MODELS, argument_help, arguments, model_class
from latentforge.report.grid import picture, to_uint8
from latentforge.train import Trainer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_readme_commands_run(tmp_path, monkeypatch):
    """Every command of the README, in order, on a folder of 60 images; budgets in minutes become a few images."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "path" / "to" / "images"
    folder.mkdir(parents=True)
    for i, array in enumerate(to_uint8(tiny_data((3, 30, 46), 60).train[torch.arange(36)].image)):
        picture(array).save(folder / f"{i}.png")
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    assert len(commands) >= 10
    for line in commands:
        words = shlex.split(re.sub(r"--minutes (\d+)", lambda m: f"--examples {50 * int(m[1])}", line))
        assert words[0] == "latentforge"
        assert main(words[1:]) == 0, line
    for made in ("grid.png", "first.png", "pairs.png", "interpolations.png", "codes.npz", "my-vae/model.safetensors",
                 "runs/vae-gan/report.html", "comparisons/vae-gan-vae-gan/comparison.html"):  # fmt: skip
        assert (tmp_path / made).stat().st_size > 0


def test_readme_python_runs(tmp_path):
    code = "\n".join(blocks("python")).replace("minutes=2", "examples=512")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "reconstruction_mse" in done.stdout
    assert (tmp_path / "my-digits" / "model.safetensors").exists()


def test_the_example_of_a_hybrid_of_ones_own_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registry, "MODELS", dict(MODELS))  # the example adds to them
    monkeypatch.syspath_prepend(ROOT / "examples")
    import own_hybrid

    out = tmp_path / "run"
    np.savez(tmp_path / "d.npz", images=tiny_data((1, 12, 12), n=200).train.pixels.numpy()[:, 0])
    model = own_hybrid.main(
        ["--data", str(tmp_path / "d.npz"), "--out", str(out), "--examples", "1024", "--features", "pca50"]
    )
    assert torch.equal(lf.load(out).sample(3, seed=0), model.sample(3, seed=0))
    printed = capsys.readouterr().out
    for measure in ("reconstruction_mse", "kl_nats", "frechet-pca50", "mutual-information"):
        assert measure in printed
    del registry.MODELS["crisp-vae"]
    refused(lambda: lf.load(out), "own_hybrid.CrispVAE")


def test_type_checkers_are_told_the_names_that_are_loaded_later():
    tree = ast.parse(Path(lf.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {name.name: line.module for line in block.body for name in line.names}
    assert told == {name: f"latentforge.{home}".rstrip(".") for name, home in lf._LAZY.items()}
    assert set(lf._LAZY) < set(lf.__all__)


def test_generated_parts_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "readme.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_registry_table_matches_the_decorators():
    for name, row in MODELS.items():
        cls = model_class(name)
        assert cls.name == name
        assert cls.__name__ == row.cls
        assert cls.__module__ == f"latentforge.models.{row.module}"
    files = {p.stem for p in (ROOT / "src/latentforge/models").glob("[!_]*.py")}
    assert files == {row.module for row in MODELS.values()}


@pytest.mark.parametrize("name", list(MODELS))
def test_every_model_has_a_page_and_help(name):
    page = (ROOT / "docs" / "models" / f"{name}.md").read_text(encoding="utf-8")
    assert "**Departures.**" in page
    cls = model_class(name)
    assert set(argument_help(cls)) == set(arguments(cls)), "each argument needs a line under Args:"
    assert set(argument_help(Trainer)) == set(arguments(Trainer)) - {"model", "data", "run", "quiet"}


def test_relative_links_lead_somewhere():
    for file in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"


@pytest.mark.parametrize("name", presets.list_presets())
def test_presets_build_and_say_what_to_expect(name, capsys):
    preset = presets.load(name)
    assert set(preset) == {"model", "about", "article", "data", "arguments", "train", "small", "expected"}
    assert {"command", "hardware", "minutes"} < set(preset["expected"])
    assert main(["train", "--preset", name, "--small", "--data", "mnist-5k", "--dry-run"]) == 0
    assert f"preset: {name}" in capsys.readouterr().out


def test_a_small_preset_trains(tmp_path):
    out = tmp_path / "run"
    assert main(["train", "--preset", "mnist/vae", "--small", "--epochs", "1", "--quiet", "--out", str(out)]) == 0
    assert (out / "model" / "model.safetensors").exists()
    assert "preset: mnist/vae" in (out / "config.yaml").read_text()
