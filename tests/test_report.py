"""The page of a run: self-contained, escaped, and written for runs in any state."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
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
from latentforge import files, saving
from latentforge.data import Dataset, Images
from latentforge.data.synthetic import blobs
from latentforge.errors import InputError, RunError
from latentforge.files import quoted
from latentforge.metrics.features import Extractor
from latentforge.metrics.subject import Subject
from latentforge.report import latent, likeness
from latentforge.report.grid import grid
from latentforge.report.latent import maps
from latentforge.report.page import ceiling, curves, even_game, show, table, words, write_report
from latentforge.report.pictures import latent_space
from latentforge.report.plots import SERIES, Look, inline
from latentforge.report.settings import commands, model_settings, train_settings
from latentforge.report.words import origin
from latentforge.run import Run
from test_contract import VARIANTS, build

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


@pytest.fixture(scope="module")
def pages(runs) -> dict[str, Path]:
    """Their pages, which tests only read."""
    return {name: write_report(Run.open(path)) for name, path in runs.items()}


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
def test_page_stands_alone(runs, pages, name):
    path = pages[name]
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
def test_page_tells_what_the_run_was(runs, pages, name):
    run = Run.open(runs[name])
    page = Page(pages[name])
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


def test_pictures_of_ones_own_among_the_previews_are_left_alone(run):
    for name in ("samples-best", "samples-"):
        shutil.copy(next((run / "previews").glob("samples-*.png")), run / "previews" / f"{name}.png")
    assert "Samples after" in Page(write_report(Run.open(run))).text


def test_a_damaged_preview_is_passed_over(run):
    last = max((run / "previews").glob("samples-*.png"))
    last.write_bytes(last.read_bytes()[:60])
    (run / "previews" / "reconstructions-99999999.png").touch()
    text = Page(write_report(Run.open(run))).text
    assert "Samples after" in text
    assert "original left, reconstruction right" in text


def test_a_run_that_may_not_be_written_gets_no_page(run, monkeypatch):
    """A full disk ends with another exit code: it is no mistake of the user's."""
    for number, error in ((errno.EROFS, InputError), (errno.ENOSPC, OSError)):

        def refuse(path, text, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("latentforge.report.page.write_text", refuse)
        with pytest.raises(error, match=r"Read-only file system|No space left"):
            write_report(Run.open(run))


def test_newest_pictures_are_shown(runs, pages):
    page = Page(pages["vae"])
    shown = [opened(u) for u in page.pictures()]
    for kind in ("samples", "reconstructions"):
        files = sorted((runs["vae"] / "previews").glob(f"{kind}-*.png"))
        assert len(files) > 1
        with Image.open(files[-1]) as newest:
            assert any(np.array_equal(np.asarray(newest), np.asarray(s)) for s in shown), kind


def test_every_curve_is_drawn_for_light_and_dark(pages):
    page = Page(pages["vae-gan"])
    dark = [a for t, a in page.tags if t == "source"]
    assert all(a["media"] == "(prefers-color-scheme: dark)" for a in dark)
    light = [a for t, a in page.tags if t == "img" and "over images seen" in (a["alt"] or "")]
    titles = [a["alt"] for a in light]
    assert len(dark) == len(light) == len(set(titles))
    assert {"kl, nats over images seen", "cost of each side, nats over images seen"} <= set(titles)
    assert not {a["srcset"] for a in dark} & {a["src"] for a in light}


def test_validation_points_lie_on_the_training_curve(runs):
    """Same picture without the training rows or without the validation rows would mean one of them is not drawn."""
    rows = Run.open(runs["vae"]).stats()
    trained = [r for r in rows if "reconstruction_nats" in r]
    checked = [r for r in rows if "validation/reconstruction_nats" in r]

    def panel(some):
        kept = [{k: v for k, v in r.items() if k == "examples" or k.endswith("reconstruction_nats")} for r in some]
        (group,) = curves(kept)
        (only,) = group["panels"]
        return only["light"]

    assert len({panel(rows), panel(trained), panel(checked)}) == 3


def test_changed_settings_are_marked(pages):
    html = pages["vae"].read_text(encoding="utf-8")
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


def test_samples_of_a_finished_run_come_from_its_fitted_sampler(tmp_path, monkeypatch):
    """The previews of an autoencoder have none: its mixture is fitted after the last round. It is loaded once."""
    nothing, load, loaded = {"walks": [], "maps": [], "clouds": [], "noise": None, "pairs": []}, saving.load, []
    np.savez(tmp_path / "x.npz", images=blobs(60, (1, 12, 12))[0][:, 0])
    run, options = tmp_path / "run", {"net": "mlp", "hidden": (8,), "latent_dim": 2}
    lf.fit("autoencoder", tmp_path / "x.npz", out=run, model_options=options, **TINY)
    monkeypatch.setattr("latentforge.report.page.learned", LEARNED)
    monkeypatch.setattr("latentforge.report.pictures.latent_space", lambda *_: dict(nothing))
    monkeypatch.setattr(saving, "load", lambda path: loaded.append(path) or load(path))
    page = Page(write_report(Run.open(run)))
    assert loaded == [run]
    assert "new images, codes from a fitted gmm." in page.text
    drawn = np.asarray(grid(load(run).sample(64, seed=0), 8))
    assert any(np.array_equal(drawn, np.asarray(opened(u))) for u in page.pictures())


def test_photographs_that_are_heavy_as_png_are_jpeg():
    """Noise does not compress: 1.2 MB in grey, 3.6 in colour."""
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), np.uint8)
    flat = np.zeros_like(noise)
    kinds = [inline(Image.fromarray(x))["uri"].partition(";")[0] for x in (noise, noise[..., 0], flat)]
    assert kinds == ["data:image/jpeg", "data:image/png", "data:image/png"]


@pytest.mark.parametrize(("error", "told"), [(RunError("it broke"), "it broke"), (MemoryError(), "more memory")])
def test_a_page_is_written_without_what_cannot_be_drawn(run, monkeypatch, error, told):
    def broken(run):
        raise error

    monkeypatch.setattr("latentforge.report.page.learned", broken)
    assert f"No pictures of the latent space: {told}" in Page(write_report(Run.open(run))).text.replace(
        "they take ", ""
    )


def unrendered(draw, *size):
    """`plot` that draws and renders nothing."""
    from matplotlib.figure import Figure

    draw(Figure(layout="constrained"), Look("#000", "#ddd", SERIES[False]))
    return {"light": "", "dark": ""}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cvae", {"net": "mlp", "hidden": (8,), "descriptor_mean": (0.5, 0.5), "descriptor_stddev": (0.3, 0.3)}),
        *((name, VARIANTS[name][0]) for name in ("aae", "bigan", "iwae", "joint-vae-gan", "ssl-vae")),
        *(("vae", args) for args in VARIANTS["vae"] if "posterior" in args or "prior" in args),
    ],
)
def test_the_latent_space_of_every_kind_of_model_is_drawn(name, options, monkeypatch):
    for module in (latent, likeness):
        monkeypatch.setattr(module, "plot", unrendered)
    data = tiny_data(n=100)
    if "descriptor_mean" in options:
        parts = [Images(p.pixels, torch.rand(len(p), 2)) for p in (data.train, data.validation, data.test)]
        data = Dataset("made", "made up", *parts)
    model = build(name, options).eval()
    model.meet(data.train)
    found = latent_space({name: model}, Subject(model, data, features=("pca50",)))
    assert [part for part in found if not found[part]] == []
    assert not [p for part in ("walks", "maps", "clouds") for p in found[part] if "why" in p]
    assert found["maps"][0]["histograms"]
    assert len(found["noise"]["rows"]) == 2


def test_clouds_have_the_same_axes_each_time():
    data = tiny_data((1, 8, 8))
    model = lf.create("vae", image_shape=(1, 8, 8), net="mlp", hidden=(8,), latent_dim=2).eval()
    subject, state = Subject(model, data, features=("pca50",)), torch.get_rng_state()
    first = likeness.clouds(model, subject)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert likeness.clouds(model, subject) == first
    single = Subject(model, data, features=("pca50",))
    single.made["pca50"] = Extractor("one", "one number", lambda x: x.flatten(1)[:, :1])
    assert likeness.clouds(model, single)["features"] == "one"


def test_of_large_images_fewer_are_held_at_once(monkeypatch):
    data, asked, some = tiny_data((1, 8, 8), n=120), [], likeness.some
    model = lf.create("vae", image_shape=(1, 8, 8), net="mlp", hidden=(8,), latent_dim=2).eval()
    monkeypatch.setattr("latentforge.data.batch.NUMBERS", 64 * 5)
    monkeypatch.setattr(likeness, "some", lambda images, n: asked.append(n) or some(images, n))
    monkeypatch.setattr(likeness, "plot", unrendered)
    subject = Subject(model, data, features=("pca50",))
    found = likeness.noise({"vae": model}, subject)
    assert [r["name"] for r in found["rows"]] == ["shown", "vae"]
    assert [(r["name"], len(r["cells"])) for r in found["table"]] == [("the noisy images", 6), ("vae", 6)]
    assert likeness.equally_far(subject)
    assert asked == [5, 5]


def test_costs_are_in_nats_where_the_loss_is(monkeypatch):
    monkeypatch.setattr("latentforge.report.page.plot", lambda draw: {"even": draw.args[3]})
    costs = {"critic_real": 0.7, "critic_fake": 0.6, "generator": 0.8, "validation/critic_real_error": 0.1}

    def drawn(**model):
        groups = {g["title"]: g["panels"] for g in curves([{"examples": 1, **costs}], even_game(model))}
        assert groups["Other"] == [{"title": "critic real error (validation)", "even": {}}]
        (panel,) = groups["Critic against generator"]
        return panel["title"], [round(v, 3) for v in panel["even"].values()]

    assert drawn(loss="nonsaturating") == drawn(loss="minimax") == ("cost of each side, nats", [0.693])
    assert drawn(loss="relativistic") == ("cost of each side, nats", [0.693, 0.347])
    both = {"fakes": "both", "objective": "larsen"}
    assert drawn(loss="minimax", **both) == ("cost of each side, nats", [1.099, 0.405])
    for loss in ("hinge", "wasserstein", "least-squares", None):
        assert drawn(loss=loss) == ("cost of each side", [])


def test_intervals_share_a_column_and_notes_stand_below():
    row = {"value": 1.0, "low": 0.5, "high": 1.5, "better": "lower", "baseline": 2.0, "which": "PCA-2",
           "features": "what it is", "note": "few"}  # fmt: skip
    made = table("t", {"a": row, "b": {"value": 2.0, "features": "what it is"}})
    assert made["header"] == ["measure", "value", "95 % interval", "better", "baseline", "baseline is"]
    assert made["rows"] == [["a", "1", "0.5 to 1.5", "lower", "2", "PCA-2"], ["b", "2", "–", "–", "–", "–"]]
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


def test_paths_are_quoted_as_the_shell_at_hand_takes_them(monkeypatch):
    monkeypatch.setattr(files, "WINDOWS", True)
    assert [quoted(r"runs\vae"), quoted(r"C:\my runs\vae")] == [r"runs\vae", r'"C:\my runs\vae"']
    monkeypatch.setattr(files, "WINDOWS", False)
    assert [quoted(Path("runs/vae")), quoted("my runs/vae")] == ["runs/vae", "'my runs/vae'"]


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


def test_a_damaged_model_offers_no_samples(run):
    (run / "model" / "config.json").write_text("{")
    told = " ".join(c for _, c in commands(config_with(run, model={"name": "autoencoder"})))
    assert "reconstruct" in told
    assert "sample" not in told


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
