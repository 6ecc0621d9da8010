"""`compare`: what it trains, keeps and refuses, the page it writes, and the sentences on it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import latentforge as lf
from datasets import refused
from latentforge import registry
from latentforge.cli import main
from latentforge.cli.compare import called
from latentforge.data import Images
from latentforge.data.synthetic import blobs
from latentforge.errors import InputError, Interrupted
from latentforge.report import verdict
from latentforge.report.comparison import comparable, costs, described, each, ends_of, leaders, table
from latentforge.run import Run
from latentforge.samplers.flow import Flow
from latentforge.tasks.compare import Entry, across, call

FLAGS = ["--examples", "256", "--features", "pca50", "--repeats", "2", "--quiet"]
SMALL = "--net mlp --hidden 8 --latent-dim 3"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of a model with an encoder, one without, and one that cannot sample."""
    out = tmp_path_factory.mktemp("compare") / "c"
    what = [f"vae {SMALL}", "gan --hidden 8 --critic-hidden 8 --latent-dim 3", f"autoencoder {SMALL} --sampler prior"]
    assert main(["compare", *what, "--out", str(out), *FLAGS]) == 0
    return out, what


@pytest.fixture
def no_page(monkeypatch):
    """Drawing the page takes seconds, and most tests do not look at it."""
    monkeypatch.setattr("latentforge.report.comparison.write_comparison", lambda *_: None)


@pytest.fixture
def folder(compared, tmp_path):
    """A copy that a test may change."""
    out, what = compared
    shutil.copytree(out, tmp_path / "copy")
    return tmp_path / "copy", what


def test_compare_writes_a_page_that_stands_alone(folder):
    out, _ = folder
    page = (out / "comparison.html").read_text()
    assert not re.search(r"""(?:src|href|srcset)=["'](?!data:)""", page)
    assert "<script" not in page
    for text in ("In plain words", "Samples", "Numbers", "Reconstructions", "Between two codes", "Latent maps", "Noise in what",
                 "Generated against real", "What a pixel distance", "Time, memory and size", "no encoder", "searched codes",
                 "no prior to draw codes from"):  # fmt: skip
        assert text in page, text
    assert page.count("data:image/png") > 30


def test_compare_keeps_its_numbers(folder):
    out, _ = folder
    found = json.loads((out / "comparison.json").read_text())
    entries = found["entries"]
    assert len(entries) == 3
    for name, e in entries.items():
        (rows,) = e["test"]
        assert e["training"][0]["examples"] == 256
        assert e["training"][0]["peak_memory_mb"] > 50
        assert any(m.startswith("frechet-pca") for m in rows) == (not name.startswith("autoencoder"))
        assert e["command"].startswith(f"latentforge train {name.split('-')[0]} ")
        kept = json.loads((out / "runs" / f"{name}-0" / "metrics.json").read_text())
        assert kept["test"] == rows


def test_compare_again_trains_nothing_and_grows(folder, no_page):
    out, what = folder
    runs = sorted((out / "runs").iterdir())
    before = [(r / "model" / "model.safetensors").stat().st_mtime_ns for r in runs]
    extra = "vae --net mlp --hidden 4 --latent-dim 2"
    assert main(["compare", *what[:1], extra, "--out", str(out), *FLAGS]) == 0
    assert [(r / "model" / "model.safetensors").stat().st_mtime_ns for r in runs] == before
    assert len(list((out / "runs").iterdir())) == 4
    assert len(json.loads((out / "comparison.json").read_text())["entries"]) == 2


def test_numbers_that_were_taken_otherwise_are_taken_again(folder, no_page):
    """What `evaluate` wrote since then is not put beside the others, and what else it measured stays."""
    out, what = folder
    (run,) = (out / "runs").glob("vae-*hidden-8*")
    before = Run.open(run).metrics()
    flags = ["--features", "pca50", "--repeats", "0", "--seed", "5"]
    assert main(["evaluate", str(run), "--metrics", "samples,smoothness", *flags]) == 0
    between = Run.open(run).metrics()["test"]
    assert "low" not in between["frechet-pca50-500"] or between["frechet-pca50-500"]["low"] is None
    assert main(["compare", *what, "--out", str(out), *FLAGS]) == 0
    after = Run.open(run).metrics()["test"]
    assert {k: after[k] for k in before["test"]} == before["test"]
    assert set(after) - set(before["test"]) == {k for k in between if k.startswith("unevenness")}
    (rows,) = json.loads((out / "comparison.json").read_text())["entries"][run.name[:-2]]["test"]
    assert rows.keys() == before["test"].keys()


def test_compare_takes_runs_and_goes_on_with_unfinished_ones(folder, tmp_path, capsys, no_page):
    out, what = folder
    run = next(iter(sorted((out / "runs").iterdir())))
    assert main(["compare", str(run), what[0], "--out", str(tmp_path / "d"), *FLAGS]) == 0
    made = next((tmp_path / "d" / "runs").iterdir())
    assert torch.equal(lf.load(made).sample(3, seed=0), lf.load(out / "runs" / made.name).sample(3, seed=0))
    shutil.rmtree(made / "model")  # as a kill before the end leaves it
    assert main(["compare", what[0], "--out", str(tmp_path / "d"), *FLAGS]) == 0
    assert (made / "model").is_dir()
    shutil.rmtree(made / "model")
    assert main(["compare", str(made), "--out", str(tmp_path / "e"), *FLAGS]) == 2
    assert "resume" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to a thread")
def test_a_comparison_that_is_stopped_lets_its_training_write_a_checkpoint(tmp_path):
    run, here = tmp_path / "run", threading.main_thread()
    if threading.current_thread() is not here:
        pytest.skip("signals are heard in the main thread")

    def stop():
        while not list(run.glob("checkpoints/round-*")):
            time.sleep(0.05)
        signal.pthread_kill(here.ident, signal.SIGTERM)

    def heard(*_):
        raise AssertionError("the signal was not passed on")

    before = signal.signal(signal.SIGTERM, heard)
    try:
        threading.Thread(target=stop, daemon=True).start()
        with pytest.raises(Interrupted, match="run it again"):
            call(["train", "vae", *SMALL.split(), "--minutes", "2", "--out", str(run)], quiet=True)
        assert signal.getsignal(signal.SIGTERM) is heard
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not Run.open(run).finished
    assert Run.open(run).load_checkpoint() is not None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to compare"),
        (["vea"], "Did you mean 'vae'"),
        (["runs/none"], "neither a run nor a model; give a run's directory"),
        (["vae", "vae"], "named twice"),
        (["vae", "--beta", "2"], "in quotes"),
        (["vae --betta 2"], "--betta"),
        (['vae "'], "quotation"),
        (["vae", "--metrics", "sample"], "Did you mean 'samples'"),
        (["vae --epochs 3"], "--epochs in common"),
        (["vae --seed=7"], "--seeds"),
        ([" "], "empty name"),
    ],
)
def test_bad_input_is_one_line(words, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words, "--examples", "64", "--quiet", "--out", "x"]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_made_otherwise_is_refused(folder, capsys):
    out, what = folder
    assert main(["compare", what[0], "--out", str(out), "--examples", "64", "--quiet"]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_runs_of_different_images_do_not_compare(folder, tmp_path, capsys):
    out, what = folder
    run = next(iter(sorted((out / "runs").iterdir())))
    flags = ["--data", "mnist-5k", "--image-size", "12", "--out", str(tmp_path / "x")]
    assert main(["compare", str(run), what[0], *flags, *FLAGS]) == 2
    assert "different images" in capsys.readouterr().err


def test_a_refused_attempt_leaves_what_an_older_comparison_wrote(folder, monkeypatch):
    out, _ = folder
    before = (out / "commands.json").read_text()

    def refuse(words, quiet):
        raise InputError("refused: there is no flag --betta; leave it out")

    monkeypatch.setattr("latentforge.tasks.compare.call", refuse)
    assert main(["compare", "vae --betta 2", "--out", str(out), *FLAGS]) == 2
    assert (out / "commands.json").read_text() == before


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """A run of images in memory, and one of the same images in a file; neither can sample."""
    folder = tmp_path_factory.mktemp("given")
    np.savez(folder / "x.npz", images=blobs(40, (1, 12, 12))[0][:, 0])
    options = {"net": "mlp", "hidden": (4,), "latent_dim": 2}
    for name, source in (("memory", lf.open_data(folder / "x.npz")), ("file", folder / "x.npz")):
        lf.fit("autoencoder", source, out=folder / name, model_options=options, sampler="prior", examples=32,
               batch_size=16, quiet=True, device="cpu")  # fmt: skip
    return folder


def test_the_images_are_those_of_the_first_run_that_still_has_them(given, tmp_path, no_page):
    lf.compare([str(given / "memory"), str(given / "file")], tmp_path / "c", metrics=("own",), repeats=0)
    assert set(json.loads((tmp_path / "c" / "comparison.json").read_text())["entries"]) == {"memory", "file"}
    with pytest.raises(InputError, match="arrays in memory"):
        lf.compare([str(given / "memory")], tmp_path / "d", metrics=("own",), repeats=0)
    assert not (tmp_path / "d").exists()


def test_images_in_memory_are_given_again(given, tmp_path, no_page):
    data = lf.open_data(given / "x.npz")
    (entry,) = lf.compare(given / "memory", tmp_path / "c", data=data, metrics="own", repeats=0)
    assert "reconstruction_mse" in entry.rows[0]
    refused(lambda: lf.compare(["vae", given / "memory"], tmp_path / "d", data=data), "train={'data': ...}")
    for images in (data, data.train.pixels, list(data.train.pixels)):
        refused(lambda x=images: lf.compare("vae", tmp_path / "d", train={"data": x}), "takes what a flag takes")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("train", "flags"),
    [
        (["--minutes=1"], ["--minutes=1"]),
        (("--minutes", 1), ["--minutes", "1"]),
        ("--minutes 1 --clip 2", ["--minutes", "1", "--clip", "2"]),
        ({"batch_size": 8, "hidden": (8, 4), "strict": True, "clip": None},
         ["--batch-size=8", "--hidden=8,4", "--strict", "--minutes", "5"]),
    ],
)  # fmt: skip
def test_settings_of_all_from_python(train, flags, tmp_path, monkeypatch):
    called = []

    def refuse(words, quiet):
        called.append(words)
        raise InputError("refused: nothing is trained here")

    monkeypatch.setattr("latentforge.tasks.compare.call", refuse)
    refused(lambda: lf.compare("vae", tmp_path / "c", train=train), "nothing is trained")
    assert called == [["train", "vae", *flags, "--seed", "0", "--out", str(tmp_path / "c" / "runs" / "vae-0")]]
    same = f"vae {flags[0].split('=')[0]} 3"
    refused(lambda: lf.compare(same, tmp_path / "c", train=train), "in common")


def test_a_model_of_ones_own_is_not_trained_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "MODELS", registry.MODELS | {"mine": registry.MODELS["vae"]})
    refused(lambda: lf.compare("mine", tmp_path / "c"), "train it with lf.fit")


def test_seeds_are_for_what_is_yet_to_be_trained(given, tmp_path):
    with pytest.raises(InputError, match="leave out --data, --seeds"):
        lf.compare([str(given / "file"), str(given / "memory")], tmp_path / "c", seeds=3)


def test_a_run_that_only_python_can_use_is_described(given):
    entry = Entry("memory", "run memory", [Run.open(given / "memory")])
    assert "lf.load(" in described(entry)["use"]


def test_a_comparison_is_called_after_what_it_compares(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my runs" / "a").mkdir(parents=True)
    assert [called(words) for words in ("my runs/a", "my runs/a/", "vae --sampler gmm", "runs/b/")] == [
        "a",
        "a",
        "vae",
        "b",
    ]


def test_where_the_page_goes_is_known_before_anything_is_measured(given, tmp_path, monkeypatch):
    monkeypatch.setattr("latentforge.tasks.compare.measured", lambda *_: pytest.fail("measured"))
    with pytest.raises(InputError, match="choose another --out"):
        lf.compare([str(given / "file")], "/proc/nowhere", metrics=("own",), repeats=0)
    with pytest.raises(pytest.fail.Exception, match="measured"):
        lf.compare([str(given / "file")], tmp_path / "c", metrics=("own",), repeats=0)
    assert not (tmp_path / "c").exists()


def test_what_a_process_says_is_seen_where_this_one_writes():
    """Not so by itself in a notebook on Windows: there the file of errors is not what the cell shows."""
    seen = io.StringIO()
    with contextlib.redirect_stderr(seen), pytest.raises(InputError, match="refused: there is no command 'trian'"):
        call(["trian"], quiet=False)
    assert seen.getvalue().splitlines()[1].startswith("latentforge: there is no command 'trian'")


# ---- the sentences ------------------------------------------------------------------------------------------------------


def row(value, low=None, high=None, better="lower", **more):
    return {"value": value, "low": low, "high": high, "better": better, **more}


def test_leaders_are_the_best_and_those_it_cannot_be_told_from():
    assert leaders([row(3.0, 2.5, 3.5), row(3.4, 3.2, 3.6), row(9.0, 8, 10), None]) == {0, 1}
    assert leaders([row(0.3, 0.2, 0.4, "higher"), row(0.9, 0.8, 1.0, "higher")]) == {1}
    assert leaders([row(1.0), row(2.0), row(1.0)]) == {0, 2}
    assert leaders([row(1.0), None]) == set()
    assert leaders([row(1.0, better=""), row(2.0, better="")]) == set()


def test_several_seeds_give_their_range():
    rows = [{"m": row(v, v - 9, v + 9)} for v in (1.0, 4.0, 2.5)]
    assert across(rows, "m") == row(2.5, 1.0, 4.0, seeds=3)
    assert across(rows[:1], "m") == row(1.0, -8.0, 10.0, seeds=1)
    assert across([{"m": row(None)}], "m") is None


def test_a_seed_without_a_value_is_told():
    rows = [{"m": row(v)} for v in (1.0, None, 3.0)]
    assert across(rows, "m") == row(2.0, 1.0, 3.0, seeds=2, of=3)
    entries = entries_of(a={})
    entries[0].rows = rows
    assert [c["seeds"] for r in table(entries) for c in r["cells"]] == ["2 of 3 seeds"]


def entries_of(**rows) -> list[Entry]:
    run = Run(Path("none"), {"model": {"name": "vae"}})
    return [Entry(name, "", [run], [r]) for name, r in rows.items()]


def sentences(entries, facts=None, rebuilt=()) -> str:
    blank = {
        "images_seen": None,
        "images_per_second": None,
        "samples_per_second": None,
        "peak_memory_mb": None,
        "parameters": None,
    }
    parts = verdict.verdict(entries, facts or {e.name: blank for e in entries}, list(rebuilt))
    return " ".join(s for p in parts for s in p["sentences"])


def test_the_verdict_follows_the_numbers():
    def model(frechet, width, **more):
        return {"frechet-digits-10k": row(frechet, frechet - width, frechet + width, baseline=50.0, which="a Gaussian",
                                          reference=0.9, **{"is": "training images"})} | more  # fmt: skip

    clear = sentences(entries_of(a=model(3.0, 0.1), b=model(8.0, 0.1)))
    assert "a has the samples closest to real images (frechet-digits-10k 3; next b, 8; training images: 0.9)." in clear
    assert "No better" not in clear
    close = sentences(entries_of(a=model(8.2, 1.0), b=model(8.0, 1.0)))
    assert "b has the samples" in close
    assert "within the 95 % intervals" in close
    a, b = entries_of(a=model(8.2, 1.0), b=model(8.0, 1.0))
    for e, value, kind in ((a, 9.0, "within the intervals"), (b, 8.3, "within the ranges over the seeds")):
        e.rows.append(model(value, 1.0))  # of a second seed
        assert kind in sentences([a, b])
    bad = sentences(entries_of(a=model(60.0, 1.0), b=model(8.0, 1.0)))
    assert "No better than the trivial baseline (a Gaussian, 50): a." in bad
    lost = sentences(entries_of(a={"rarest-class-digits-10k": row(0.02, better="higher")}, b={}))
    assert "Some class hardly appears in the samples of a (0.02)" in lost


def test_the_baseline_is_not_held_against_models_in_its_own_components():
    worse = {"frechet-pca50-10k": row(9.0, 8.0, 10.0, baseline=0.1, which="a Gaussian")}
    assert "No better" not in sentences(entries_of(a=worse, b=worse))
    features = {"frechet-self-10k": row(9.0, 8.0, 10.0, baseline=1.0, which="a Gaussian")}
    assert "No better than the trivial baseline (a Gaussian, 1): a." in sentences(
        entries_of(a=worse | features, b=worse)
    )


def test_the_verdict_says_where_there_is_no_interval():
    text = sentences(entries_of(a={"coverage-self-1k": row(0.3, better="higher")}, b={"coverage-self-1k": row(0.2)}))
    assert "a covers the largest share of the real images (coverage-self-1k 0.3; next b, 0.2, no interval)." in text


def test_the_verdict_says_nothing_that_was_not_measured():
    assert sentences(entries_of(a={}, b={})) == "No model was trained with labels."


def test_speed_and_search_are_told_with_their_numbers():
    facts = {
        "a": {
            "images_seen": 100,
            "images_per_second": 50.0,
            "samples_per_second": 10.0,
            "peak_memory_mb": 400,
            "parameters": 9,
        },
        "b": {
            "images_seen": 200,
            "images_per_second": 90.0,
            "samples_per_second": 5.0,
            "peak_memory_mb": 300,
            "parameters": 8,
        },
    }
    searched = [{"name": "b", "searched": True, "cost": "0.3 s", "error": 0.0123}]
    text = sentences(entries_of(a={}, b={}), facts, searched)
    assert "b trains fastest, 90 images a second (a 50)." in text
    assert "a draws fastest, 10 images a second (b 5)." in text
    assert "b needs least memory to train, 300 MB of the process (a 400)." in text
    assert "searched for, 0.3 s each, and leaves a squared error of 0.0123 on the images shown." in text
    assert "b: no encoder, so the code of an image has to be searched for." in text
    on_gpu = entries_of(a={}, b={})
    on_gpu[1].runs[0].config["train"] = {"device": "cuda"}
    assert "memory" not in sentences(on_gpu, facts)  # the process's says nothing of the GPU's


def test_copies_probes_and_labels_are_told():
    def told(*bounds):
        return {"memorisation-2k": row(*bounds, "higher", baseline=0.8, which="a Gaussian")}

    near = sentences(entries_of(a=told(0.5, 0.4, 0.6), b=told(0.85, 0.75, 0.95)))
    assert "nearer to training images than unseen ones do: a (0.5); 1 is as far, and a Gaussian scores 0.8." in near
    assert "No model's samples lie clearly nearer" in sentences(entries_of(b=told(0.85, 0.75, 0.95)))
    text = sentences(entries_of(a={
        "1-nn-4k": row(0.9, better="higher", which="PCA-20", baseline=0.8),
        "active-units": row(3, better="higher", reference=20),
        "as-asked-labels-1k": row(0.75, better="higher"),
        "tstr-4k": row(0.5, better="higher", reference=0.9),
    }))  # fmt: skip
    for part in ("a 90.0%; baseline PCA-20 80.0%.", "a 3 of 20.", "a draws what it is asked for in 75.0%", "samples of a only",
                 "right about 50.0%", "real ones, 90.0%"):  # fmt: skip
        assert part in text, part


def test_a_fitted_density_is_no_part_of_a_models_size():
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=2, net="mlp", hidden=(4,)).eval()
    (entry,) = entries_of(a={})
    before = costs(entry, model)["parameters"]
    model.sampler = Flow(2)
    assert costs(entry, model)["parameters"] == before > 0


# ---- latent optimisation ---------------------------------------------------------------------------------------------------


def test_a_search_finds_the_code_of_a_decoders_own_image():
    torch.manual_seed(0)
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=2, net="mlp", hidden=(16,)).eval()
    for p in model.parameters():
        p.data.mul_(2)  # an image per code, not nearly one for all
    z = torch.randn(5, 2)
    images = model.decode(z)
    weights = [p.clone() for p in model.parameters()]
    found = lf.invert(model, images, steps=400)
    error = (model.decode(found) - images).square().mean()
    drawn = model.sample(64, seed=0)
    best = torch.cdist(images.flatten(1), drawn.flatten(1)).min(1).values.square().mean() / 64
    assert error < 0.05 * best
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(found, lf.invert(model, images, steps=400))


def test_what_cannot_sample_cannot_be_searched():
    model = lf.create("autoencoder", image_shape=(1, 8, 8), latent_dim=2, net="mlp", hidden=(4,))
    with pytest.raises(InputError, match="nothing to draw codes from"):
        lf.invert(model, torch.rand(2, 1, 8, 8))


def test_a_search_takes_images_as_its_sisters_do():
    torch.manual_seed(0)
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=2, net="mlp", hidden=(4,)).eval()
    images = (255 * torch.rand(3, 1, 8, 8)).byte()
    expected = lf.invert(model, images / 255, steps=3)
    for given in (images, images[:, 0], images.numpy(), images[:, 0].numpy() / 255, Images(images)):
        torch.testing.assert_close(lf.invert(model, given, steps=3), expected)
    with torch.no_grad():
        torch.testing.assert_close(lf.invert(model, images, steps=3), expected)
    restored = lf.restore(model, images, "none", steps=3)
    torch.testing.assert_close(lf.restore(model, images.numpy(), "none", steps=3), restored)
    with pytest.raises(InputError, match="do not fit"):
        lf.invert(model, torch.rand(3, 3, 8, 8))


def test_descriptors_are_labels_too():
    entries = entries_of(a={}, b={})
    entries[1].runs = [Run(Path("none"), {"model": {"name": "cvae", "descriptor_mean": [0.0, 1.0]}})]
    assert sentences(entries) == "Trained with labels: b; the others without."
    assert sentences(entries[1:]) == "Trained with labels: b."


def test_what_means_different_things_has_no_leader():
    def entries(*models):
        found = entries_of(
            **{f"m{i}": {"loss_nats": row(1.0), "memorisation-2k": row(1.0)} for i in range(len(models))}
        )
        for e, model in zip(found, models, strict=True):
            e.runs = [Run(Path("none"), {"model": model})]
        return found

    vae, told = {"name": "vae"}, {"name": "cvae", "num_classes": 3}
    assert comparable(entries(vae, vae), "loss_nats")
    assert not comparable(entries(vae, told), "loss_nats")
    assert not comparable(entries(vae, {"name": "vae", "likelihood": "gaussian"}), "loss_nats")
    assert not comparable(entries(vae, {"name": "autoencoder"}), "loss_nats")
    assert comparable(entries(vae, told), "frechet-digits-10k")
    assert not comparable(entries(vae, vae), "memorisation-2k")


def test_baselines_that_differ_are_all_shown():
    rows = [row(1.0, baseline=0.5, which="PCA-20"), row(1.0, baseline=0.25, which="PCA-64"), row(1.0)]
    assert ends_of(rows, "baseline", "which") == {"value": "0.5; 0.25", "name": "PCA-20; PCA-64"}
    assert each({"a": "5 minutes", "b": "5 minutes"}) == "5 minutes"
    assert each({"a": "5 minutes", "b": "20 minutes"}) == "a: 5 minutes; b: 20 minutes"
    told = sentences(entries_of(
        a={"reconstruction_mse": row(0.6, baseline=0.5, which="PCA-20", better="lower")},
        b={"reconstruction_mse": row(0.3, baseline=0.25, which="PCA-64", better="lower")},
    ))  # fmt: skip
    assert "than a (PCA-20: 0.5), b (PCA-64: 0.25)." in told
