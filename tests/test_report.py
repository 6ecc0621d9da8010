"""The page of a run: self-contained, escaped, and written for runs in any state."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import latentforge as lf
from conftest import LEARNED, tiny_data
from latentforge.data.synthetic import blobs
from latentforge.metrics.subject import Subject
from latentforge.report.latent import maps
from latentforge.report.page import ceiling, show, table, words, write_report
from latentforge.report.settings import commands, model_settings, train_settings
from latentforge.report.words import origin
from latentforge.run import Run

TINY = {"examples": 64, "batch_size": 16, "quiet": True, "device": "cpu"}
MODELS = {
    "vae": {"net": "mlp", "hidden": (8,), "latent_dim": 2, "beta": 0.5},
    "gan": {"hidden": (8,), "critic_hidden": (8,), "latent_dim": 2},
    "vae-gan": {"net": "mlp", "hidden": (8,), "latent_dim": 2},
}
EVIL = "<script>alert('x')</script> & \"co\""


class Page(HTMLParser):
    """What a browser would make of the page: tags with attributes, and the text outside style."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, f"unclosed: {self.open}"
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.pieces.append(data)

    def pictures(self) -> list[str]:
        """Every address of a picture."""
        return [a.get("src") or a.get("srcset") or "" for t, a in self.tags if t in ("img", "source")]


def opened(uri: str) -> Image.Image:
    """The picture in a data: URI, decoded in full."""
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    image.load()
    return image


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, options in MODELS.items():
        lf.fit(name, blobs(40, (1, 8, 8)), out=folder / name, model_options=options, **TINY)
    return {name: folder / name for name in MODELS}


@pytest.fixture
def run(runs, tmp_path) -> Path:
    """A finished VAE run that the test may spoil; without statistics, since drawing them takes a second."""
    path = Path(shutil.copytree(runs["vae"], tmp_path / "run"))
    (path / "stats.jsonl").unlink()
    return path


def config_with(run: Path, **changes) -> Run:
    """The run with parts of its config replaced, as if it had been trained so."""
    found = Run.open(run)
    for part, values in changes.items():
        found.config[part] = {**found.config[part], **values}
    return found


@pytest.mark.parametrize("name", MODELS)
def test_page_stands_alone(runs, name):
    path = write_report(Run.open(runs[name]))
    assert path == runs[name] / "report.html"
    page = Page(path)
    pictures = page.pictures()
    assert len(pictures) > 6
    for uri in pictures:
        assert min(opened(uri).size) > 8
    assert {t for t, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on") or a == "href"]
    assert not re.search("https?:", path.read_text(encoding="utf-8"))
    assert not list(path.parent.glob(".report*")), "a temporary file was left"


@pytest.mark.parametrize("name", MODELS)
def test_page_tells_what_the_run_was(runs, name):
    run = Run.open(runs[name])
    page = Page(write_report(run))
    entry = lf.describe(name)
    for text in (name, entry["summary"], entry["paper"], "arrays in memory", "32 to train on", "Finished", "64 images"):
        assert text in page.text, text
    last = [r for r in run.stats() if any(k.startswith("validation/") for k in r)][-1]
    for key, value in last.items():
        if key.startswith("validation/"):
            assert show(value) in page.text, key
    for part in ("model", "train"):
        for key in set(run.config[part]) - {"name"}:
            assert key in page.text, key
    assert run.config["machine"]["torch"] in page.text
    assert f"latentforge sample {run.path} -n 64" in page.text
    assert ("original left, reconstruction right" in page.text) == (name != "gan")


def test_newest_pictures_are_shown(runs):
    page = Page(write_report(Run.open(runs["vae"])))
    shown = [opened(u) for u in page.pictures()]
    for kind in ("samples", "reconstructions"):
        files = sorted((runs["vae"] / "previews").glob(f"{kind}-*.png"))
        assert len(files) > 1
        with Image.open(files[-1]) as newest:
            assert any(np.array_equal(np.asarray(newest), np.asarray(s)) for s in shown), kind


def test_every_curve_is_drawn_for_light_and_dark(runs):
    page = Page(write_report(Run.open(runs["vae-gan"])))
    dark = [a for t, a in page.tags if t == "source"]
    assert all(a["media"] == "(prefers-color-scheme: dark)" for a in dark)
    light = [a for t, a in page.tags if t == "img" and "over images seen" in (a["alt"] or "")]
    titles = [a["alt"] for a in light]
    assert len(dark) == len(light) == len(set(titles))
    assert {"kl, nats over images seen", "cost of each side, nats over images seen"} <= set(titles)
    assert not {a["srcset"] for a in dark} & {a["src"] for a in light}


def test_validation_points_lie_on_the_training_curve(runs):
    """Same picture without the training rows or without the validation rows would mean one of them is not drawn."""
    from latentforge.report.page import curves

    rows = Run.open(runs["vae"]).stats()
    trained = [r for r in rows if "reconstruction_nats" in r]
    checked = [r for r in rows if "validation/reconstruction_nats" in r]

    def panel(some):
        kept = [{k: v for k, v in r.items() if k == "examples" or k.endswith("reconstruction_nats")} for r in some]
        (group,) = curves(kept)
        (only,) = group["panels"]
        return only["light"]

    assert len({panel(rows), panel(trained), panel(checked)}) == 3


def test_changed_settings_are_marked(runs):
    run = Run.open(runs["vae"])
    html = write_report(run).read_text(encoding="utf-8")
    marked = {row.split("<td>")[1].split("</td>")[0] for row in html.split("<tr class=changed>")[1:]}
    assert marked == {"net", "hidden", "latent_dim", "beta", "examples", "batch_size"}


def test_text_is_escaped(run):
    found = config_with(run, images={"from": EVIL, "notes": [EVIL], "classes": [EVIL]}, machine={"threads": EVIL})
    found.config["data"]["source"] = EVIL
    (run / "metrics.json").write_text(json.dumps({EVIL: {EVIL: EVIL}}))
    path = write_report(found)
    page = Page(path)
    assert "<script" not in path.read_text(encoding="utf-8").lower()
    assert page.text.count("<script>alert('x')</script>") >= 6, "the text itself must still be shown"


def test_sections_of_metrics_become_tables(run):
    file = run / "metrics.json"
    known = json.loads(file.read_text())
    test = {"loss_nats": {"value": 123.456, "better": "lower", "baseline": 206.5}, "coverage": {"value": 0.25}}
    file.write_text(json.dumps({**known, "test": test, "timing": {"passes": 3}}))
    page = Page(write_report(Run.open(run)))
    for text in ("test", "loss_nats", "123.5", "lower", "206.5", "coverage", "0.25", "timing", "passes"):
        assert text in page.text, text
    assert "finish_seconds" not in page.text


def test_tables():
    mixed = table("t", {"a": {"value": 1.5, "unit": "nats"}, "b": 2, "c": {"unit": "s"}})
    assert mixed["header"] == ["measure", "value", "unit"]
    assert mixed["rows"] == [["a", "1.5", "nats"], ["b", "2", "–"], ["c", "–", "s"]]
    assert table("t", {"a": 1, "b": [1, 2.5]})["rows"] == [["a", "1"], ["b", "1, 2.5"]]
    assert table("t", [{"x": 1}, {"x": 2}])["rows"] == [["1", "1"], ["2", "2"]]
    assert table("t", 7)["rows"] == [["value", "7"]]


def test_the_page_of_a_finished_run_shows_its_latent_space(tmp_path, monkeypatch):
    """Drawn where the images can be had again, left out where they were in memory."""

    monkeypatch.setattr("latentforge.report.page.learned", LEARNED)
    small = {"net": "mlp", "hidden": (8,), "latent_dim": 3}
    lf.fit("vae", "mnist-5k", out=tmp_path / "run", examples=256, model_options=small, quiet=True)
    text = write_report(Run.open(tmp_path / "run")).read_text()
    for title in (
        "Between two codes",
        "Latent maps",
        "Generated against real",
        "Noise in what",
        "What a pixel distance",
    ):
        assert title in text
    assert not re.search(r"""(?:src|href|srcset)=["'](?!data:)""", text)
    lf.fit("vae", tiny_data((1, 12, 12)), out=tmp_path / "memory", examples=128, model_options=small, quiet=True)
    assert "Latent maps" not in write_report(Run.open(tmp_path / "memory")).read_text()


def test_intervals_share_a_column_and_notes_stand_below():
    row = {"value": 1.0, "low": 0.5, "high": 1.5, "better": "lower", "features": "what it is", "note": "few"}
    made = table("t", {"a": row, "b": {"value": 2.0, "features": "what it is"}})
    assert made["header"] == ["measure", "value", "95 % interval", "better"]
    assert made["rows"] == [["a", "1", "0.5 to 1.5", "lower"], ["b", "2", "–", "–"]]
    assert made["below"] == ["what it is", "few"]


def test_numbers_for_people():
    assert [show(v) for v in (None, True, 12345, 0.5, 1e-5, 1234.5, 100.0, (8, 8), float("nan"), "a")] == [
        "–", "yes", "12,345", "0.5", "1e-05", "1,234", "100", "8, 8", "nan", "a",
    ]  # fmt: skip
    assert words("reconstruction_mse") == ("reconstruction", "MSE")
    assert words("critic_real_logit") == ("critic real", "logit")
    assert words("loss") == ("loss", "")


def test_a_steep_start_leaves_the_frame_and_a_flat_one_does_not():
    flat = [(i, 1.0 + i % 2) for i in range(100)]
    steep = [(0, 500.0), *flat]
    assert ceiling(flat) is None
    assert 2 < ceiling(steep) < 3
    assert ceiling(steep[:5]) is None
    assert ceiling([(i, float("nan")) for i in range(50)]) is None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mnist", "mnist"),
        ("/home/someone/cats", "cats"),
        ("/home/someone/cats.npz", "cats.npz"),
        ("memory", "an array"),
    ],
)
def test_origin_names_no_folder_of_the_machine(source, expected):
    assert origin({"data": {"source": source}, "images": {"from": "an array"}}) == expected


def test_unfinished_run(run):
    shutil.rmtree(run / "model")
    (run / "stats.jsonl").write_text(json.dumps({"round": 9, "examples": 9, "seconds": 2.0, "progress": 0.414}) + "\n")
    (run / "metrics.json").unlink()
    page = Page(write_report(Run.open(run)))
    assert "Unfinished, 41 % of its budget" in page.text
    assert "lf.resume(" in page.text
    assert "latentforge sample" in page.text


def test_run_without_checkpoint_offers_no_sampling(run):
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints")
    page = Page(write_report(Run.open(run)))
    assert "lf.resume(" in page.text
    assert "latentforge sample" not in page.text


def test_run_with_nothing_yet(run, tmp_path):
    empty = Run.create(tmp_path / "empty", {k: v for k, v in Run.open(run).config.items() if k != "format"})
    page = Page(write_report(empty))
    assert "Nothing logged yet" in page.text
    assert page.pictures() == []
    assert "latent_dim" in page.text
    assert "In one look" not in page.text


def test_stats_with_one_row_holes_and_nan(run):
    rows = [
        {"round": 1, "examples": 16, "progress": 0.25, "seconds": 0.0, "bad_steps": 3, "loss": float("nan")},
        {"round": 2, "examples": 32, "seconds": 0.0, "validation/kl_nats": float("inf")},
    ]
    (run / "stats.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"round": 3, "exam')
    page = Page(write_report(Run.open(run)))
    assert "3 steps were left out" in page.text
    assert "inf" in page.text


@pytest.mark.parametrize("broken", ["{", "[1, 2]", "null"])
def test_damaged_metrics_are_left_out(run, broken):
    (run / "metrics.json").write_text(broken)
    assert "Measures" not in Page(write_report(Run.open(run))).text


def test_notes_are_shown(run):
    page = Page(write_report(config_with(run, images={"notes": ["7 files were left out"]})))
    assert "7 files were left out" in page.text


def test_a_model_outside_the_package(run):
    page = Page(write_report(config_with(run, model={"name": "my-own", "depth": 3})))
    assert "my-own" in page.text
    assert "depth" in page.text


def test_path_with_a_space_is_quoted(run):
    path = run.rename(run.with_name("my run"))
    page = Page(write_report(Run.open(path)))
    assert f"latentforge sample '{path}' -n 64" in page.text


@pytest.mark.parametrize("shape", [(3, 9, 20), (2, 8, 8)])
def test_any_shape(tmp_path, shape):
    images = np.random.default_rng(0).random((20, *shape), dtype=np.float32)
    options = {"net": "mlp", "hidden": (4,), "latent_dim": 2}
    lf.fit("autoencoder", images, out=tmp_path / "run", model_options=options, **TINY)
    (tmp_path / "run" / "stats.jsonl").unlink()
    page = Page(write_report(Run.open(tmp_path / "run")))
    assert "×".join(map(str, shape)) in page.text
    assert all(opened(u) for u in page.pictures())


def test_writing_again_replaces_the_page(run):
    first = write_report(Run.open(run)).read_text(encoding="utf-8")
    assert write_report(Run.open(run)).read_text(encoding="utf-8") == first
    (run / "metrics.json").write_text('{"test": {"a": 1}}')
    assert write_report(Run.open(run)).read_text(encoding="utf-8") != first


def test_what_follows_from_the_images_is_no_change(tmp_path):
    """A default run of the flagship: sizes, rates and game are written down as what they came to."""
    lf.fit("vae-gan", blobs_of((3, 32, 32)), out=tmp_path / "r", examples=64, batch_size=None, quiet=True)
    run = Run.open(tmp_path / "r")
    assert not [s["name"] for s in model_settings(run.config["model"]) if s["changed"]]
    assert [s["name"] for s in train_settings(run.config["train"], "vae-gan") if s["changed"]] == ["examples"]


def blobs_of(shape):
    pixels, labels = blobs(80, shape)
    return pixels.transpose(0, 2, 3, 1), labels


def test_a_page_offers_what_the_run_can_do(tmp_path):
    options = {"net": "mlp", "hidden": (8,), "latent_dim": 2}
    for sampler in ("prior", "gmm"):
        run = tmp_path / sampler
        lf.fit("autoencoder", "mnist-5k", out=run, examples=64, quiet=True, sampler=sampler, model_options=options)
        told = " ".join(c for _, c in commands(Run.open(run)))
        assert ("sample" in told) == (sampler == "gmm")
        assert "resume" in told


def test_a_code_of_one_number_has_no_map_of_neighbours(monkeypatch):
    data = lf.open_data(blobs_of((1, 12, 12)))
    model = lf.create("vae", image_shape=(1, 12, 12), latent_dim=1, net="mlp", hidden=(8,)).eval()
    found = maps(model, Subject(model, data, features=("pca50",)))
    assert [m["title"] for m in found["maps"]] == ["two principal directions of the codes"]


def test_codes_that_are_all_the_same_have_no_map():
    """t-SNE crashes on them, and with it the process."""
    model = lf.create("vae", image_shape=(1, 8, 8), net="mlp", hidden=(8,)).eval()
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.zero_()
    data = tiny_data((1, 8, 8))
    assert maps(model, Subject(model, data, features=("pca50",))) == {"why": "all images have the same code"}
