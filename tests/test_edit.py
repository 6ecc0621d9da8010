"""Edits through codes, walks along directions and nearest neighbours: the arithmetic against a model whose code is the image,
and the verbs end to end."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge.cli import main
from latentforge.data import Dataset, Images
from latentforge.data.dataset import open_whole
from latentforge.data.synthetic import blobs
from latentforge.game import Game
from latentforge.report.labelled import caption
from latentforge.tasks.directions import Directions, principal_directions, single_dimensions
from latentforge.tasks.edit import apart, labelled
from latentforge.tasks.interpolate import slerp

TRAIN = ["--examples", "32", "--batch-size", "16", "--latent-dim", "3", "--quiet"]


class Mirror(Game):
    """A model whose code is the image itself, pixel by pixel."""

    def __init__(self, side: int = 3):
        super().__init__()
        self.image_shape, self.latent_dim = (1, side, side), side * side
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def encode(self, image, y=None):
        code = image.flatten(1)
        return SimpleNamespace(mean=code, stddev=torch.zeros_like(code))

    def generate(self, z, y=None):
        return z.unflatten(1, self.image_shape)


def some(n: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, 1, 3, 3, generator=torch.Generator().manual_seed(seed))


# ---- arithmetic ------------------------------------------------------------------------------------------------------
def test_the_attribute_vector_is_the_difference_of_mean_codes():
    a, b = some(700, 0.5), some(60, 0, 0.5, 1)  # more than one batch
    expected = a.flatten(1).numpy().mean(0) - b.flatten(1).numpy().mean(0)
    assert np.allclose(lf.attribute_vector(Mirror(), a, b).numpy(), expected, atol=1e-6)
    refused(lambda: lf.attribute_vector(Mirror(), a, b[:0]), "empty")


def test_how_far_codes_lie_apart_is_not_learnt_by_heart():
    """Many numbers and few codes: a vector sets its own codes apart perfectly, others only where there is something."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 40, 500, generator=generator)
    own = torch.cat([a, b]) @ (a.mean(0) - b.mean(0))
    assert own[:40].min() > own[40:].max()
    assert 0.3 < apart(a, b) < 0.7
    assert apart(a + 0.5, b) == 1
    assert np.isnan(apart(a[:1], b))


def test_an_edit_adds_the_vector_to_the_code():
    x, vector, strengths = some(5, 0.3, 0.6), torch.linspace(-0.1, 0.1, 9), torch.tensor([0.0, 1.0, -2.0])
    edited = lf.edit(Mirror(), x, vector, strengths)
    assert edited.shape == (5, 3, 1, 3, 3)
    for i, s in enumerate(strengths):
        assert torch.allclose(edited[:, i], (x.flatten(1) + s * vector).view(5, 1, 3, 3), atol=1e-6)


def test_detail_is_what_the_reconstruction_misses():
    model = Mirror()
    model.generate = lambda z, y=None: 0.5 * z.unflatten(1, model.image_shape)  # it rebuilds half of an image
    x, vector = some(5, 0.3, 0.6), torch.full((9,), 0.2)
    edited = lf.edit(model, x, vector, torch.tensor([0.0, 1.0, 9.0]), detail=True)
    assert torch.allclose(edited[:, 0], x, atol=1e-6)
    assert torch.allclose(edited[:, 1], x + 0.1, atol=1e-6)
    assert edited[:, 2].max() == 1
    assert torch.allclose(lf.edit(model, x, vector, torch.tensor([1.0]))[:, 0], 0.5 * x + 0.1, atol=1e-6)


def test_walks_are_lines_or_arcs_between_both_codes():
    a, b, w = some(3, 0.2, 0.8).flatten(1), some(3, 0.2, 0.8, 1).flatten(1), torch.linspace(0, 1, 5)
    line = a[:, None] * (1 - w[:, None]) + b[:, None] * w[:, None]
    assert torch.allclose(lf.interpolate(Mirror(), a, b, 5).flatten(2), line, atol=1e-6)
    u, v = (torch.nn.functional.normalize(codes, dim=1) for codes in (a, b))
    arc, angle = slerp(u, v, w), torch.acos((u * v).sum(1))
    assert torch.allclose(arc.norm(dim=2), torch.ones(3, 5), atol=1e-5)
    assert torch.allclose(arc[:, [0, -1]], torch.stack([u, v], 1), atol=1e-5)
    assert torch.allclose((arc[:, 1] * u).sum(1), torch.cos(angle / 4), atol=1e-5)
    assert torch.allclose(slerp(u, 2 * u, w)[:, 2], 1.5 * u, atol=1e-4)  # parallel codes: a line
    sphere = lf.interpolate(Mirror(), a, b, 5, "sphere").flatten(2)
    assert torch.allclose(sphere, slerp(a, b, w).clamp(0, 1), atol=1e-6)


def test_principal_directions_are_those_of_the_singular_values():
    generator = torch.Generator().manual_seed(3)
    codes = torch.randn(200, 4, generator=generator) @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.1])) + 5
    found = principal_directions(codes, 3)
    centred = codes.double().numpy() - codes.double().numpy().mean(0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs((found.axes.numpy() * vt[:3]).sum(1)), 1, atol=1e-4)
    assert np.allclose(found.stddev.numpy(), s[:3] / np.sqrt(199), rtol=1e-4)
    assert np.allclose(found.share.numpy(), (s**2 / (s**2).sum())[:3], rtol=1e-4)
    refused(lambda: principal_directions(codes, 5), "1 to 4")


def test_a_walk_sets_one_coordinate_and_leaves_the_others():
    codes = some(50, 0.4, 0.6).flatten(1)
    found = principal_directions(codes, 2)
    strengths = torch.tensor([-1.0, 0.0, 2.0])
    moved = lf.traverse(Mirror(), codes[:4], found, strengths).flatten(3)  # (4, 2, 3, 9)
    rest = torch.eye(9) - found.axes.T @ found.axes
    for k in range(2):
        along = (moved[:, k] - found.mean) @ found.axes.T  # (4, 3, 2)
        assert torch.allclose(along[..., k], (strengths * found.stddev[k]).expand(4, 3), atol=1e-5)
        was = ((codes[:4] - found.mean) @ found.axes.T)[:, 1 - k]
        assert torch.allclose(along[..., 1 - k], was[:, None].expand(4, 3), atol=1e-5)
        assert torch.allclose(moved[:, k] @ rest, (codes[:4] @ rest)[:, None].expand(4, 3, 9), atol=1e-5)


def test_single_dimensions():
    codes = some(50).flatten(1)
    found = single_dimensions(codes, (7, 2))
    assert isinstance(found, Directions)
    assert torch.equal(found.axes.argmax(1), torch.tensor([7, 2]))
    assert torch.allclose(found.stddev, codes.std(0)[[7, 2]])
    refused(lambda: single_dimensions(codes, (9,)), "0 to 8")


def test_which_images_have_an_attribute():
    data = tiny_data()
    data.classes = ["round", "wide", "tall"]
    y = data.train.labels
    has, lacks = labelled(data, "wide")
    assert torch.equal(has.pixels, data.train.pixels[y == 1])
    assert torch.equal(lacks.pixels, data.train.pixels[y != 1])
    assert torch.equal(labelled(data, "2", "0")[1].pixels, data.train.pixels[y == 0])
    refused(lambda: labelled(data, "wides"), "wide")
    refused(lambda: labelled(data, "wide", "1"), "itself")
    told = torch.rand(len(y), 2, generator=torch.Generator().manual_seed(0))
    numbers = Dataset("n", "n", Images(data.train.pixels, told), data.validation, data.test, descriptors=["x", "y"])
    high, low = labelled(numbers, "y")
    assert high.labels[:, 1].min() > low.labels[:, 1].max()
    assert abs(len(high) - len(low)) <= 1
    refused(lambda: labelled(numbers, "y", "x"), "descriptors")
    flag = (torch.arange(len(y)) % 4 > 0).float()[:, None]  # three in four have it, so that it is the median
    flags = Dataset("f", "f", Images(data.train.pixels, flag), data.validation, data.test, descriptors=["young"])
    assert [len(part) for part in labelled(flags, "young")] == [int(flag.sum()), int((1 - flag).sum())]
    unknown = Images(data.train.pixels, torch.where(torch.arange(len(y)) < 5, -1, y))
    half = Dataset("h", "h", unknown, data.validation, data.test)
    assert len(labelled(half, "1")[0]) + len(labelled(half, "1")[1]) == len(y) - 5
    bare = Dataset("b", "b", Images(data.train.pixels), data.validation, data.test)
    refused(lambda: labelled(bare, "1"), "--having")


def test_an_autoencoder_turns_wide_blobs_tall():
    """Second moments of the pixels, which no model was told, say which way a blob lies."""
    data = tiny_data((1, 16, 16), n=500)
    model = lf.fit("autoencoder", data, examples=40_000, batch_size=32, sampler="prior", quiet=True,
                   model_options={"net": "mlp", "hidden": (64,), "latent_dim": 8})  # fmt: skip
    vector = lf.attribute_vector(model, *labelled(data, "2", "1"))
    wide = data.test[torch.where(data.test.labels == 1)[0]].image
    assert float((upright(wide) < 0).float().mean()) > 0.95
    edited = lf.edit(model, wide, vector, torch.tensor([0.0, 2.0]))
    assert float((upright(edited[:, 0]) < 0).float().mean()) > 0.9
    assert float((upright(edited[:, 1]) > 0).float().mean()) > 0.9


def upright(images: torch.Tensor) -> torch.Tensor:
    """(N,) spread of the ink over rows minus that over columns."""
    ink = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    at = torch.arange(images.shape[2]).float()
    rows, columns = ink.sum(2), ink.sum(1)
    return sum(sign * ((w * at**2).sum(1) - (w * at).sum(1) ** 2) for sign, w in ((1, rows), (-1, columns)))


def test_neighbours_against_all_distances():
    a, b = some(6).flatten(1), some(40, seed=1).flatten(1)
    index, distance = lf.neighbours(a, b, 5)
    every = np.linalg.norm(a.numpy()[:, None] - b.numpy()[None], axis=2)
    assert np.array_equal(index.numpy(), every.argsort(1)[:, :5])
    assert np.allclose(distance.numpy(), np.sort(every, 1)[:, :5], atol=1e-6)
    own, _ = lf.neighbours(b, b, 3, own=True)
    between = np.linalg.norm(b.numpy()[:, None] - b.numpy()[None], axis=2) + np.diag(np.full(40, 9.0))
    assert np.array_equal(own.numpy(), between.argsort(1)[:, :3])
    twins = torch.zeros(5, 9)  # every other row is as near as its own
    index, distance = lf.neighbours(twins, twins, 2, own=True)
    assert (index != torch.arange(5)[:, None]).all()
    assert (distance == 0).all()
    refused(lambda: lf.neighbours(a, b, 41), "1 to 40")
    refused(lambda: lf.neighbours(b, b, 40, own=True), "1 to 39")


# ---- the verbs -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A VAE, a conditional VAE and a GAN on three classes of blobs; a folder each of tall and wide ones; one picture."""
    folder = tmp_path_factory.mktemp("edits")
    images, labels = blobs(60, (1, 12, 9))
    np.savez(folder / "blobs.npz", images=images[:, 0], labels=labels)
    dense = ["--net", "mlp", "--hidden", "8"]
    for name, flags in (
        ("vae", dense),
        ("cvae", [*dense, "--drop", "0"]),
        ("gan", ["--hidden", "8", "--critic-hidden", "8"]),
    ):
        where = ["--data", str(folder / "blobs.npz"), "--out", str(folder / name)]
        assert main(["train", name, *where, *TRAIN, *flags]) == 0
    for name, k in (("wide", 1), ("tall", 2)):
        (folder / name).mkdir()
        for i, image in enumerate(images[labels == k][:3]):
            Image.fromarray(np.kron(image[0], np.ones((2, 2), np.uint8))).save(folder / name / f"{i}.png")
    Image.fromarray(images[0, 0]).convert("RGB").save(folder / "one.png")
    return folder


def done(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_edit_by_classes(shop, tmp_path, capsys):
    run, out = shop / "vae", tmp_path / "edits.npz"
    rows = json.loads(done(capsys, "edit", run, "--attribute", 2, "--against", 1, "-n", 3, "--strengths", "0,1", "--json",
                           "--out", out))  # fmt: skip
    model, data = lf.load(run), lf.open_data(str(shop / "blobs.npz"))
    vector = lf.attribute_vector(model, *labelled(data, "2", "1"))
    with np.load(out) as file:
        assert file["originals"].shape == (3, 12, 9, 1)
        assert file["edited"].shape == (3, 2, 12, 9, 1)
        assert np.allclose(file["vector"], vector.numpy(), atol=1e-6)
        x = torch.from_numpy(file["originals"]).permute(0, 3, 1, 2) / 255
        again = model.reconstruct(x).permute(0, 2, 3, 1).mul(255).round().byte().numpy()
        assert np.array_equal(file["edited"][:, 0], again)
    assert rows[0]["length"] == pytest.approx(float(vector.norm()), rel=1e-5)
    assert rows[0]["with"] == int((data.train.labels == 2).sum())
    codes = [lf.embed(model, s)[0] for s in labelled(data, "2", "1")]
    assert rows[0]["auroc of their codes"] == pytest.approx(apart(*codes))
    done(capsys, "edit", run, "--attribute", 2, "-n", 3, "--strengths", "0,99", "--detail", "--out", out)
    with np.load(out) as file:
        assert np.array_equal(file["edited"][:, 0], file["originals"])
        assert not np.array_equal(file["edited"][:, 1], file["originals"])
    text = done(capsys, "edit", run, "--attribute", 0, "-n", 4, "--out", tmp_path / "sheet.png")
    assert "all others" in text
    assert "sheet.png: a grid" in text
    assert Image.open(tmp_path / "sheet.png").size == (6 * 11 + 2, 4 * 14 + 2)


def test_edit_by_folders_and_of_given_files(shop, tmp_path, capsys):
    """Any number of images, of any size and channels."""
    folders = ["--having", shop / "tall", "--lacking", shop / "wide"]
    done(capsys, "edit", shop / "vae", *folders, "--in", shop / "one.png", "--out", tmp_path / "one.npz")
    model = lf.load(shop / "vae")
    with np.load(tmp_path / "one.npz") as file:
        assert file["edited"].shape == (1, 5, 12, 9, 1)
        tall, wide = (open_whole(shop / name, image_size=(12, 9), channels=1).images for name in ("tall", "wide"))
        assert np.allclose(file["vector"], lf.attribute_vector(model, tall, wide).numpy(), atol=1e-6)
    done(capsys, "edit", shop / "vae", *folders, "--in", shop / "wide", "--strengths", "1", "--out", tmp_path / "many")
    assert len(list((tmp_path / "many").iterdir())) == 3
    done(capsys, "edit", shop / "cvae", "--attribute", 1, "--out", tmp_path / "told.png")
    assert main(["edit", str(shop / "cvae"), *map(str, folders)]) == 2  # images without labels
    assert "a label for every image" in capsys.readouterr().err


def test_walks(shop, tmp_path, capsys):
    rows = json.loads(done(capsys, "edit", shop / "vae", "--principal", 3, "--out", tmp_path / "walk.png", "--json"))
    assert [r["direction"] for r in rows] == ["principal 1", "principal 2", "principal 3"]
    assert sum(r["share of variance"] for r in rows) == pytest.approx(1, abs=1e-4)
    assert Image.open(tmp_path / "walk.png").size == (7 * 11 + 2, 3 * 14 + 2)
    done(
        capsys,
        "edit",
        shop / "gan",
        "--dimension",
        "2,0",
        "-n",
        2,
        "--strengths",
        "-1,1",
        "--out",
        tmp_path / "gan.npz",
    )
    with np.load(tmp_path / "gan.npz") as file:
        assert file["edited"].shape == (2, 2, 2, 12, 9, 1)
        assert "originals" not in file.files
        assert np.array_equal(file["directions"].argmax(1), [2, 0])


def test_neighbours_verb(shop, tmp_path, capsys):
    out = tmp_path / "codes.npz"
    done(capsys, "embed", shop / "vae", "--neighbours", 3, "--split", "all", "--out", out)
    with np.load(out) as file:
        near, mean = file["neighbours"], file["mean"]
        assert near.shape == (60, 3)
        train = mean[:48]  # `all` begins with the training images
        between = np.linalg.norm(mean[:, None] - train[None], axis=2)
        between[np.arange(48), np.arange(48)] = np.inf
        assert np.allclose(file["distances"], np.sort(between, 1)[:, :3], atol=1e-4)
        assert (near[:48] != np.arange(48)[:, None]).all()
    assert "grid of 12" in done(
        capsys, "embed", shop / "vae", "--neighbours", 2, "-n", 4, "--out", tmp_path / "near.png"
    )


def test_points_are_edited_and_rebuilt_as_numbers(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "vae", "--data", "ring", "--net", "mlp", "--hidden", "8", *TRAIN, "--out", str(run)]) == 0
    done(capsys, "edit", run, "--attribute", 0, "-n", 2, "--strengths", "1", "--out", tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as file:
        assert file["edited"].shape == (2, 1, 1, 1, 2)
        assert file["edited"].dtype == np.float32
    done(capsys, "reconstruct", run, "-n", 2, "--out", tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as file:
        assert file["images"].shape == file["reconstructions"].shape == (2, 1, 1, 2)
        assert file["images"].dtype == file["reconstructions"].dtype == np.float32
    assert main(["edit", str(run), "--attribute", "0"]) == 2
    assert ".npz" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "parts"), [
    (["vae"], ["--attribute", "--principal"]),
    (["vae", "--attribute", "1", "--principal", "2"], ["--attribute and --principal"]),
    (["vae", "--having", "tall"], ["--lacking"]),
    (["vae", "--against", "1", "--principal", "1"], ["--against"]),
    (["vae", "--principal", "1", "--detail"], ["--detail"]),
    (["vae", "--attribute", "7"], ["no class '7'"]),
    (["vae", "--attribute", "1", "--strengths", ","], ["--strengths"]),
    (["vae", "--attribute", "1", "--strengths", "nan"], ["--strengths"]),
    (["vae", "--principal", "9"], ["1 to 3"]),
    (["vae", "--dimension", "3"], ["0 to 2"]),
    (["vae", "--having", "tall", "--lacking", "nowhere"], ["nowhere"]),
    (["vae", "--attribute", "1", "--in", "empty"], ["no images"]),
    (["vae", "--attribute", "1", "--out", "x.gif"], [".png"]),
    (["gan", "--attribute", "1"], ["no encoder"]),
    (["gan", "--principal", "1"], ["no encoder"]),
    (["gan", "--dimension", "1", "--in", "one.png"], ["no encoder"]),
    (["nothing", "--attribute", "1"], ["nothing"]),
])  # fmt: skip
def test_bad_input(shop, arguments, parts, monkeypatch, capsys):
    monkeypatch.chdir(shop)
    (shop / "empty").mkdir(exist_ok=True)
    before = sorted(shop.rglob("*"))
    assert main(["edit", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert all(part in err for part in parts), err
    assert sorted(shop.rglob("*")) == before


@pytest.mark.parametrize(("arguments", "part"), [
    (["vae", "--neighbours", "49"], "1 to 48"), (["vae", "--out", "x.png"], ".npz"), (["gan"], "no encoder"),
])  # fmt: skip
def test_bad_embeddings(shop, arguments, part, monkeypatch, capsys):
    monkeypatch.chdir(shop)
    assert main(["embed", *arguments]) == 2
    assert part in capsys.readouterr().err


# ---- the benchmark ---------------------------------------------------------------------------------------------------
@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module("edit")


def bar(width: float, lean: float, side: int = 28) -> torch.Tensor:
    """(1, 1, side, side): a long soft-edged stroke of this width, its foot `lean` columns per row to the right."""
    row, column = torch.meshgrid(torch.arange(side) - 13.5, torch.arange(side) - 13.5, indexing="ij")
    across = (column - lean * row).abs() / (1 + lean**2) ** 0.5
    return ((width / 2 - across + 0.5).clamp(0, 1) * (row.abs() < 10))[None, None]


def test_thickness_and_slant_are_measured(bench):
    for width in (2.0, 4.0):
        assert float(bench.stroke(bar(width, 0))) == pytest.approx(width, rel=0.35)
    assert bench.stroke(bar(4, 0.3)) > 1.4 * bench.stroke(bar(2, 0.3))
    assert float(bench.slant(bar(3, 0.4))) == pytest.approx(0.4, abs=0.03)
    assert float(bench.slant(bar(3, -0.2))) == pytest.approx(-0.2, abs=0.03)


def test_edits_are_judged_at_the_strength_chosen_on_validation(bench):
    """Images of grey 0.1 to 0.3 are to become brighter than 0.6; the vector is 0.5, so that half of validation is there
    at strength 1 and all at 1.5, which test images are then edited at."""

    def flat(*values: float) -> Images:
        return Images(torch.tensor(values)[:, None, None, None] * torch.ones(1, 6, 6))

    bright, dark = flat(0.6, 0.7, 0.8), flat(0.1, 0.2, 0.3)
    e = bench.Edit((bright, dark), (bright, flat(0.05, 0.15)), (bright, dark), lambda x: (x[:, 0, 0, 0] > 0.6).double(),
                   lambda x: x.flatten(1)[:, :2] + torch.rand(len(x), 2), lambda x, o: float(x.mean()))  # fmt: skip
    found = bench.judged(e, bench.plain("pixels", None))
    assert found["validation"]["0.5"] == 0
    assert found["validation"]["1.0"] == 0.5
    assert found["strength"] == 1.5
    assert found["kept"] == pytest.approx((0.85 + 0.95 + 1) / 3, abs=1e-3)
    assert found["unedited"] == 0
    assert found["own"] == pytest.approx(1 / 3)  # all are nearest to the brightest original
    summed = bench.summary([found])
    assert summed["changed"] == 1
    assert summed["images"] == 3


def test_no_dimension_is_one_line():
    refused(lambda: single_dimensions(torch.zeros(4, 3), ()), "0 to 2")


def test_an_unknown_class_has_no_name():
    assert caption(torch.tensor(-1), ["a", "b"], None) == "no label"
    assert caption(torch.tensor(1), ["a", "b"], None) == "b"
