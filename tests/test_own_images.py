"""A user's own images at every verb: what is left out is said, classes are those of the same names, runs are no data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import latentforge as lf
from conftest import LEARNED
from datasets import refused
from latentforge.api import data_of
from latentforge.cli import main
from latentforge.cli.augment import data_for
from latentforge.data import dataset, open_data
from latentforge.data.dataset import open_whole
from latentforge.data.synthetic import blobs
from latentforge.report import page
from latentforge.report.grid import grid
from latentforge.run import Run

NAMES = ("bird", "cat", "dog")
TINY = ["--examples", "32", "--batch-size", "16", "--latent-dim", "3", "--net", "mlp", "--hidden", "8", "--quiet"]


def pictures(folder: Path, classes: tuple[str, ...] = (), n: int = 30) -> Path:
    images, labels = blobs(n, (1, 12, 12))
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / classes[label % len(classes)] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place / f"{i:03d}.png")
    return folder


def train(model: str, source: Path, out: Path) -> Path:
    assert main(["train", model, "--data", str(source), *TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    train("cvae", pictures(folder / "animals", NAMES), folder / "cvae")
    train("vae", pictures(folder / "flat"), folder / "vae")
    return folder


# ---- what a run writes is no data -----------------------------------------------------------------------------------


def test_a_run_inside_the_folder_of_its_images(tmp_path, monkeypatch, capsys):
    """`--data .` puts ./runs among the images; every verb must still find the same ones, and no class `runs`."""
    monkeypatch.chdir(pictures(tmp_path / "photos", NAMES))
    assert main(["train", "vae", "--data", ".", *TINY]) == 0
    again = data_of(Run.open("runs/vae"))
    assert again.classes == list(NAMES)
    assert sum(map(len, (again.train, again.validation, again.test))) == 30
    assert "no data and were passed over: runs/vae" in " ".join(again.notes)
    assert main(["reconstruct", "runs/vae"]) == 0
    flat = pictures(tmp_path / "flat")
    train("vae", flat, flat / "run")
    assert len(open_whole(flat).images) == 30


# ---- classes by name ------------------------------------------------------------------------------------------------


def test_classes_are_told_by_name(shop, tmp_path):
    """Folders `cat` and `dog` are classes 1 and 2 of a model that knows birds too."""
    some = pictures(tmp_path / "some", ("dog", "cat"))
    assert main(["embed", str(shop / "cvae"), "--data", str(some), "--out", str(tmp_path / "codes.npz")]) == 0
    found = np.load(tmp_path / "codes.npz")
    wanted = [NAMES.index(Path(name).parent.name) for name in found["names"]]
    assert found["labels"].tolist() == wanted
    model, whole = lf.load(shop / "cvae"), open_whole(some)
    image = whole.images[torch.arange(30)].image
    told = model.encode(image, torch.tensor(wanted)).mean.detach().numpy()
    np.testing.assert_allclose(found["mean"], told, atol=1e-5)


def test_an_exported_model_knows_the_names_too(shop, tmp_path):
    assert main(["export", str(shop / "cvae"), str(tmp_path / "model")]) == 0
    assert lf.load(tmp_path / "model").classes == list(NAMES)
    some, wanted = pictures(tmp_path / "some", ("dog", "cat")), []
    for model in (shop / "cvae", tmp_path / "model"):
        assert main(["embed", str(model), "--data", str(some), "--out", str(tmp_path / "codes.npz")]) == 0
        wanted.append(np.load(tmp_path / "codes.npz")["labels"].tolist())
    assert wanted[0] == wanted[1]
    assert set(wanted[0]) == {1, 2}


def test_numbers_are_names_too(tmp_path):
    """A model of classes 0, 1, 2 from an array is told folders `1` and `2` as such."""
    images, labels = blobs(30, (1, 12, 12))
    np.savez(tmp_path / "x.npz", images=images[:, 0], labels=labels)
    run = train("cvae", tmp_path / "x.npz", tmp_path / "run")
    some = pictures(tmp_path / "some", ("1", "2"))
    assert main(["embed", str(run), "--data", str(some), "--out", str(tmp_path / "codes.npz")]) == 0
    assert set(np.load(tmp_path / "codes.npz")["labels"].tolist()) == {1, 2}


def test_edits_tell_the_classes_that_folders_name(shop, tmp_path):
    """`edit --in` reads folders `dog` and `cat` as the verbs with --data do, and tells nothing of folders it does not know."""
    from latentforge.cli.inputs import open_fitting

    model = lf.load(shop / "cvae")
    known = open_fitting(model, pictures(tmp_path / "some", ("dog", "cat")), False)
    assert set(known.labels.tolist()) == {1, 2}
    assert open_fitting(model, pictures(tmp_path / "more", ("fish", "cat")), False).labels is None


def test_a_class_that_the_model_was_not_told_is_refused(shop, tmp_path, capsys):
    fish = pictures(tmp_path / "more", ("cat", "fish"))
    assert main(["reconstruct", str(shop / "cvae"), "--data", str(fish)]) == 2
    assert "has none called fish; name the folders as in training: bird, cat, dog." in capsys.readouterr().err


# ---- what is left out is said ---------------------------------------------------------------------------------------


def test_verbs_say_what_they_left_out(shop, tmp_path, capsys):
    flat = pictures(tmp_path / "flat")
    (flat / "movie.mov").write_text("")
    (flat / "broken.png").write_text("no image")
    assert main(["detect", str(shop / "vae"), "--data", str(flat), "--out", str(tmp_path / "s.csv")]) == 2
    assert "--skip-bad" in capsys.readouterr().err
    for words in (
        ["detect", "--data", flat, "--out", tmp_path / "s.csv"],
        ["embed", "--data", flat, "--out", tmp_path / "c.npz"],
        ["edit", "--in", flat, "--principal", "1", "--out", tmp_path / "e.png"],
        ["restore", "--in", flat, "--task", "denoise", "--steps", "1", "--out", tmp_path / "r.npz"],
    ):
        verb, *rest = map(str, words)
        assert main([verb, str(shop / "vae"), *rest, "--skip-bad"]) == 0
        err = capsys.readouterr().err
        assert "note: 1 file that is not an image was ignored (.mov)" in err
        assert "1 of 31 images could not be used and were left out: broken.png" in err
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 31


def test_a_folder_is_taken_whole(shop, tmp_path, capsys):
    seven = pictures(tmp_path / "seven", n=7)
    assert main(["compress", str(shop / "vae"), "--data", str(seven), "--out", str(tmp_path / "a.lfz")]) == 0
    assert main(["reconstruct", str(shop / "vae"), "--data", str(seven), "--out", str(tmp_path / "pairs.npz")]) == 0
    assert len(np.load(tmp_path / "pairs.npz")["images"]) == 7


def test_own_images_given_by_name_are_cut_as_in_training(shop, tmp_path, capsys):
    """By the run's seed, not by that of other images; an exported model does not know it, and says what may follow."""
    flat, run, pairs = pictures(tmp_path / "flat"), tmp_path / "run", tmp_path / "pairs.npz"
    assert main(["train", "vae", "--data", str(flat), "--data-seed", "3", *TINY, "--out", str(run)]) == 0
    own = data_of(Run.open(run))
    assert own.fingerprint != open_data(flat).fingerprint
    asked = ["--data", str(flat), "--split", "test", "--out", str(pairs)]
    assert main(["reconstruct", str(run), *asked]) == 0
    assert np.array_equal(np.load(pairs)["images"][..., 0], own.test.pixels[:, 0])
    assert data_for(run, lf.load(run), True, str(flat)).fingerprint == own.fingerprint
    assert main(["export", str(run), str(tmp_path / "moved")]) == 0
    assert main(["export", str(shop / "vae"), str(tmp_path / "same")]) == 0
    assert "as they were cut" not in capsys.readouterr().err
    assert main(["reconstruct", str(tmp_path / "moved"), *asked]) == 0
    assert "not the images that the model was trained on, as they were cut" in capsys.readouterr().err
    for model, data in (("same", shop / "flat"), ("moved", shop / "flat")):  # as in training; other images altogether
        assert main(["reconstruct", str(tmp_path / model), "--data", str(data), *asked[2:]]) == 0
    assert "as they were cut" not in capsys.readouterr().err


def test_own_images_that_have_changed_are_cut_anew_and_it_is_said(tmp_path, capsys):
    flat, out = pictures(tmp_path / "flat"), ["--out", str(tmp_path / "pairs.npz")]
    run = train("vae", flat, tmp_path / "run")
    shutil.copy(flat / "000.png", flat / "more.png")
    capsys.readouterr()
    assert main(["reconstruct", str(run), "--data", str(flat), "--split", "test", *out]) == 0
    assert "not the images that the model was trained on, as they were cut" in capsys.readouterr().err
    cut = data_for(run, lf.load(run), True, str(flat))
    assert sum(map(len, (cut.train, cut.validation, cut.test))) == 31
    assert main(["reconstruct", str(run), *out]) == 2
    assert "restore them or train anew" in capsys.readouterr().err


def test_a_single_image_will_do(shop, tmp_path):
    one = pictures(tmp_path / "one", n=1) / "000.png"
    assert main(["detect", str(shop / "vae"), "--data", str(one), "--out", str(tmp_path / "s.csv")]) == 0
    assert (tmp_path / "s.csv").read_text().splitlines()[1].startswith("000.png,")


@pytest.mark.parametrize("verb", ["detect", "embed", "embed --split train", "reconstruct", "interpolate"])
def test_images_of_several_sizes_are_refused_with_the_models_own(shop, verb, tmp_path, capsys):
    folder = pictures(tmp_path / "mixed", n=20)
    Image.new("RGB", (40, 30)).save(folder / "large.png")
    words = [*verb.split(), str(shop / "vae"), "--data", str(folder), "--out", str(tmp_path / "out.npz")]
    assert main(words) == 2
    assert "add --image-size 12x12 --channels 1" in capsys.readouterr().err
    assert main([*words, "--image-size", "12x12", "--channels", "1"]) == 0


def test_of_several_frames_the_first_is_read_and_said(tmp_path):
    frames = [Image.fromarray(a[0]) for a in blobs(3, (1, 12, 12))[0]]
    pictures(tmp_path)
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.tiff", save_all=True, append_images=frames[1:])
    assert "2 files have several frames, of which the first was read" in open_data(tmp_path).notes


def test_a_link_that_leads_round_is_one_bad_file(tmp_path):
    pictures(tmp_path)
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    refused(lambda: open_data(tmp_path), "1 image of 31", "round.png (a broken link")
    assert len(open_whole(tmp_path, skip_bad=True).images) == 30


def test_names_that_sort_alike_have_an_order(tmp_path, monkeypatch):
    for name in ("1.png", "01.png", "001.png"):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / name)
    import os

    forward = open_whole(tmp_path).names
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: list(real(path))[::-1])
    assert open_whole(tmp_path).names == forward


# ---- options that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["restore", "vae", "--in", "flat", "--data", "none", "--task", "denoise"], "leave it out beside --in"),
        (["edit", "vae", "--in", "flat", "--data", "none", "--principal", "1"], "leave out --data"),
        (["decompress", "vae", "."], ". is no file; give one that 'latentforge compress' wrote."),
        (["detect", "vae", "--heatmaps", "heat.jpg"], "--heatmaps heat.jpg: write to NAME.png"),
        (["compare", "vae", "cvae", "--out", "c"], "different images"),
        (["compare", "vae", "--data", "flat", "--out", "c"], "trained already; leave out --data"),
    ],
)
def test_what_cannot_be_used_is_refused(shop, words, line, monkeypatch, capsys):
    monkeypatch.chdir(shop)
    assert main(words) == 2
    err = capsys.readouterr().err.strip()
    assert line in err
    assert len(err.splitlines()) == 1


def test_a_walk_needs_two_images_and_does_not_stand_still(shop, tmp_path, capsys):
    few = pictures(tmp_path / "few", n=2)
    walk = ["interpolate", str(shop / "vae"), "--steps", "3", "--out", str(tmp_path / "w.npz")]
    assert main([*walk, "--data", str(few)]) == 0
    rows = np.load(tmp_path / "w.npz")["images"].reshape(8, 3, -1).astype(int)
    assert (np.abs(rows[:, 0] - rows[:, 2]).sum(1) > 0).all()
    (few / "001.png").unlink()
    assert main([*walk, "--data", str(few)]) == 2
    assert "an interpolation needs two images" in capsys.readouterr().err


# ---- nothing is lost -------------------------------------------------------------------------------------------------


def test_a_finished_run_without_checkpoints_is_not_begun_anew(shop, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(shop / "vae", run)
    shutil.rmtree(run / "checkpoints")
    before = sorted(p.name for p in run.rglob("*"))
    assert main(["resume", str(run), "--examples", "64"]) == 2
    assert "no checkpoint to go on from" in capsys.readouterr().err
    assert sorted(p.name for p in run.rglob("*")) == before


def test_a_page_says_why_it_has_no_pictures_of_the_latent_space(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "learned", LEARNED)
    flat = pictures(tmp_path / "moved")
    run = train("vae", flat, tmp_path / "run")
    assert "No pictures of the latent space" not in (run / "report.html").read_text()
    flat.rename(tmp_path / "away")
    assert main(["report", str(run)]) == 0
    assert "No pictures of the latent space" in (run / "report.html").read_text()
    assert "moved, which is not there" in (run / "report.html").read_text()


def test_images_are_read_once_for_a_training_and_its_page(tmp_path, monkeypatch):
    read, whole, drawn = [], dataset.read_folder, []
    monkeypatch.setattr(dataset, "read_folder", lambda *given: (read.append(1), whole(*given))[1])
    monkeypatch.setattr(page, "learned", lambda run: drawn.append(data_of(run)))
    run = train("vae", pictures(tmp_path / "flat"), tmp_path / "run")
    assert len(read) == 1
    assert main(["resume", str(run), "--examples", "64", "--quiet"]) == 0
    assert len(read) == 2
    assert drawn[0].fingerprint == drawn[1].fingerprint == data_of(Run.open(run)).fingerprint
    assert len(read) == 3  # nothing is kept beyond that


def test_a_refused_comparison_leaves_no_trace(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("latentforge.report.comparison.write_comparison", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    sizes = pictures(tmp_path / "sizes")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(sizes / "large.png")
    words = ["compare", "vae --net mlp --hidden 4", "--data", str(sizes), "--examples", "16", "--quiet", "--out", "c"]
    rest = ["--metrics", "own", "--repeats", "0"]
    assert main([*words, *rest]) == 2
    assert "--image-size" in capsys.readouterr().err
    assert not Path("c").exists()
    assert main([*words, *rest, "--image-size", "12", "--seeds", "2"]) == 0
    (found,) = json.loads(Path("c/comparison.json").read_text())["entries"].values()
    a, b = (r["loss_nats"]["value"] for r in found["test"])
    assert a != b
    one, two = (lf.load(f"c/runs/vae-net-mlp-hidden-4-{seed}") for seed in (0, 1))
    assert not torch.equal(one.sample(2, seed=0), two.sample(2, seed=0))


def test_what_cannot_be_trained_is_known_before_the_first_training(shop, tmp_path, capsys):
    words = ["compare", "vae --net mlp", "cvae --net mlp", "--data", str(shop / "flat"), "--examples", "16", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "c")]) == 2
    assert "label" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_sheets_of_large_images_are_made_smaller():
    small = grid(torch.rand(64, 1, 40, 60), 8, most=64 * 300)
    assert small.width * small.height < 64 * 400
    assert (small.width - 2) % 8 == (small.height - 2) % 8 == 0
    assert grid(torch.rand(4, 1, 9, 9), 2, most=10**6).size == (24, 24)


def test_sheets_are_made_smaller_on_the_processor(monkeypatch):
    """Apple's GPU cannot, but by whole factors."""
    done, cpu, smaller = [], torch.Tensor.cpu, functional.interpolate
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: done.append("fetched") or cpu(x))
    monkeypatch.setattr(functional, "interpolate", lambda *a, **k: done.append("smaller") or smaller(*a, **k))
    grid(torch.rand(4, 1, 9, 9), 2, most=100)
    assert done[:2] == ["fetched", "smaller"]
