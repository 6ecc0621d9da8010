"""Restoration: operators and the linear estimator against slow computations, both ways to restore, the verb end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import latentforge as lf
from conftest import LEARNED, tiny_data
from datasets import refused
from latentforge.cli import main
from latentforge.clock import Clock
from latentforge.errors import InputError
from latentforge.metrics.reconstruction import psnr
from latentforge.models.restorer import Restorer, pixel_error
from latentforge.nets.linear_filter import LinearFilter
from latentforge.nets.unet import UNet, widths_of
from latentforge.parts.likeness import gram
from latentforge.parts.operators import OPERATORS, TASKS, operator_of, parse, spoil
from latentforge.report.grid import picture, to_uint8
from latentforge.report.page import write_report
from latentforge.run import Run
from latentforge.tasks.invert import invert
from latentforge.tasks.output import file_names

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import restore as benchmark

TEXTS = [
    "none",
    "noise:0.5",
    "clipped:0.2",
    "blur:1.5",
    "downsample:3",
    "faded:0.4,0.1",
    "hole:5",
    "lower:0.25",
    "pixels:0.75",
]
TINY = {"width": 4, "fine": 2}


def images(n: int = 6, shape=(3, 13, 18), seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def block_means(x: np.ndarray, side: int) -> np.ndarray:
    """Means of the squares that tile the last two axes, one by one."""
    h, w = x.shape[2:]
    rows = [[x[:, :, i : i + side, j : j + side].mean((2, 3)) for j in range(0, w, side)] for i in range(0, h, side)]
    return np.stack([np.stack(r, -1) for r in rows], -2)


def restorer_of(shape=(1, 12, 12), **arguments):
    torch.manual_seed(0)
    return lf.create("restorer", image_shape=shape, **TINY, **arguments).eval()


# ---- operators ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_an_operator_is_what_it_says_and_repeats_by_seed(text):
    operator, x = parse(text), images()
    assert str(operator) == text
    assert parse(str(operator)) == operator
    seen = spoil(x, operator, 3)
    assert torch.equal(seen, spoil(x, operator, 3))
    random = operator.sigma > 0 or text.startswith("pixels")
    assert torch.equal(seen, spoil(x, operator, 4)) != random
    naive = operator.naive(seen, (13, 18))
    assert naive.shape == x.shape
    if not operator.sigma:
        assert float(operator.misfit(x, seen).abs().max()) < 1e-9
    wrong = operator.misfit(1 - x, seen)
    assert wrong.shape == (6,)
    assert (wrong > operator.misfit(x, seen)).all()


def test_blur_is_scipys():
    x = images()
    found = parse("blur:1.3,0").apply(x.double())
    expected = np.stack(
        [[gaussian_filter(c, 1.3, mode="nearest", truncate=6 / 1.3) for c in i] for i in x.double().numpy()]
    )
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-7)


def test_downsampling_takes_means_of_squares_that_may_be_cut_off():
    x = images()
    found = parse("downsample:4").apply(x)
    assert found.shape == (6, 3, 4, 5)
    np.testing.assert_allclose(found.numpy(), block_means(x.numpy(), 4), atol=1e-6)
    naive = parse("downsample:4").naive(found, (13, 18))
    assert torch.equal(naive[:, :, 12, 17], found[:, :, 3, 4])


def test_noise_has_its_deviation_and_only_clipped_noise_stays_within():
    x = torch.full((50, 1, 20, 20), 0.5)
    noise = spoil(x, parse("noise:0.5")) - x
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert float(noise.min()) < -1
    clipped = spoil(x, parse("clipped:0.5"))
    assert float(clipped.min()) == 0
    assert float(clipped.max()) == 1


def test_masks_hide_what_they_say():
    x = images()
    hole = spoil(x, parse("hole:5"))
    assert hole.shape == (6, 4, 13, 18)
    missing = hole[:, -1] == 0
    assert missing.sum() == 6 * 25
    assert missing[:, 4:9, 6:11].all()
    assert (spoil(x, parse("lower:0.25"))[0, -1] == 0).sum() == 3 * 18
    for text, words in (("lower:0.99", "hides 13 of the 13 rows"), ("lower:0.01", "hides 0 of the 13 rows")):
        with pytest.raises(InputError, match=words):
            spoil(x, parse(text))
    some = spoil(x, parse("pixels:0.75"))
    assert float((some[:, -1] == 0).float().mean()) == pytest.approx(0.75, abs=0.04)
    assert (some[:, :-1][(some[:, -1:] == 0).expand(-1, 3, -1, -1)] == 0).all()
    kept = parse("hole:5").keep(torch.zeros_like(x), hole)
    assert torch.equal(kept, hole[:, :-1])
    mean = parse("hole:5").naive(hole)
    np.testing.assert_allclose(float(mean[2, 1, 6, 8]), float(x[2, 1][~missing[2]].mean()), rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nois:0.5", "Did you mean 'noise'"), ("noise", "noise:NUMBER"), ("noise:x", "noise:NUMBER"), ("blur:0", "above 0"),
        ("noise:0.5,1", "one number"), ("downsample:1", "whole number"), ("downsample:2.5", "whole number"),
        ("lower:1", "below 1"), ("pixels:2", "below 1"), ("hole:2.5", "whole number"), ("faded:2", "at most 1"),
        ("none:3", "no operator"), ("noise:-1", "no operator"), ("", "no operator"),
    ],
)  # fmt: skip
def test_bad_operators_are_one_line(text, words):
    with pytest.raises(InputError, match=words):
        parse(text)


def test_every_task_has_an_operator():
    assert set(TASKS) == {"denoise", "deblur", "superres", "inpaint", "enhance"}
    assert all(str(operator_of(t)) == TASKS[t] for t in TASKS)
    assert {parse(t).kind for t in TEXTS} == set(OPERATORS)


# ---- losses and networks -----------------------------------------------------------------------------------------------


def test_losses_against_numpy():
    x, y = images(seed=1), images(seed=2)
    d = (x - y).double().numpy().reshape(6, -1)
    np.testing.assert_allclose(pixel_error(x, y, "squared").numpy(), np.square(d).sum(1), rtol=1e-5)
    np.testing.assert_allclose(pixel_error(x, y, "absolute").numpy(), np.abs(d).sum(1), rtol=1e-5)
    np.testing.assert_allclose(pixel_error(x, y, "decibels").numpy(), -psnr(x, y).numpy(), rtol=1e-4)
    f = images(shape=(4, 3, 5)).numpy().astype(np.float64)
    np.testing.assert_allclose(gram(torch.tensor(f)).numpy(), np.einsum("nahw,nbhw->nab", f, f) / 15, rtol=1e-5)


def test_style_does_not_ask_where():
    f = images(shape=(4, 3, 5))
    torch.testing.assert_close(gram(f), gram(f.flip(3)))
    assert not torch.allclose(gram(f), gram(2 * f))


@pytest.mark.parametrize("size", [(28, 28), (13, 18), (7, 40), (3, 3), (1, 5)])
def test_the_network_takes_any_size(size):
    net = UNet(2, 3, widths_of(28, 28, 2, 4))
    assert net(torch.rand(2, 2, *size)).shape == (2, 3, *size)


def test_the_network_sees_further_than_a_hole():
    """A pixel's answer depends on pixels 13 away."""
    torch.manual_seed(0)
    net = UNet(1, 1, widths_of(28, 28, 4, 8))
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x)[0, 0, 13, 13], x)
    assert slope[0, 0, 0].abs().sum() > 0
    assert slope[0, 0, :, 27].abs().sum() > 0


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 9, 40)])
def test_the_linear_filter_is_least_squares(shape):
    """Against numpy's on neighbourhoods cut out one by one."""
    c, h, w = shape
    x = images(12, shape)
    seen = spoil(x, parse("noise:0.3"), 1)
    found = LinearFilter(c, 3)
    assert torch.equal(found(seen), seen)
    found.solve([(seen[:5], x[:5]), (seen[5:], x[5:])], torch.Generator())
    padded = np.pad(seen.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge").astype(np.float64)
    rows = [padded[n, :, i : i + 3, j : j + 3].ravel() for n in range(12) for i in range(h) for j in range(w)]
    a = np.c_[np.array(rows), np.ones(len(rows))]
    wanted = x.permute(0, 2, 3, 1).flatten(0, 2).numpy()
    best = (a @ np.linalg.lstsq(a, wanted, rcond=None)[0]).reshape(12, h, w, c).transpose(0, 3, 1, 2)
    torch.testing.assert_close(found(seen), torch.as_tensor(best).float(), atol=1e-4, rtol=1e-4)


def test_the_linear_filter_looks_at_some_pixels_of_large_images(monkeypatch):
    x = images(40, (1, 48, 65))
    seen = spoil(x, parse("noise:0.3"), 1)
    errors = []
    for places in (64, 10**6):
        monkeypatch.setattr("latentforge.nets.linear_filter.PLACES", places)
        found = LinearFilter(1, 3)
        found.solve(zip(seen.split(4), x.split(4), strict=True), torch.Generator())
        errors.append(float((found(seen) - x).square().mean()))
    some, every = errors
    assert every < some < 1.05 * every
    assert every < 0.6 * float((seen - x).square().mean())


# ---- a model trained for it --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A restorer of noise, a restorer of holes and a VAE, trained on blobs as runs."""
    folder = tmp_path_factory.mktemp("runs")
    data = tiny_data((1, 12, 12), 200)
    np.savez(
        folder / "blobs.npz",
        images=torch.cat([p.pixels for p in (data.train, data.validation, data.test)])[:, 0].numpy(),
    )
    for name, examples, options in (
        ("noise", 6000, {"operator": "noise:0.5", "width": 8, "fine": 4}),
        ("hole", 6000, {"task": "inpaint", "operator": "hole:4", "width": 8, "fine": 4}),
        ("small", 64, {"task": "superres", "operator": "downsample:2", **TINY}),  # only its sizes are looked at
    ):
        lf.fit("restorer", str(folder / "blobs.npz"), out=folder / name, model_options=options, examples=examples,
               precision="fp32", quiet=True)  # fmt: skip
    lf.fit("vae", str(folder / "blobs.npz"), out=folder / "vae", examples=12000, quiet=True,
           model_options={"net": "mlp", "hidden": (64,), "latent_dim": 6})  # fmt: skip
    lf.fit("autoencoder", str(folder / "blobs.npz"), out=folder / "autoencoder", examples=64, quiet=True,
           model_options={"net": "mlp", "hidden": (8,), "latent_dim": 3})  # fmt: skip
    return folder


def blob_images(folder: Path) -> torch.Tensor:
    with np.load(folder / "blobs.npz") as f:
        return torch.as_tensor(f["images"])[:, None].float() / 255


def test_a_trained_restorer_beats_doing_nothing(runs):
    x = lf.open_data(str(runs / "blobs.npz")).test[torch.arange(20)].image
    for name, least in (("noise", 4.0), ("hole", 3.0)):
        model = lf.load(runs / name)
        seen = spoil(x, model.operator, 1)
        naive = model.operator.naive(seen, (12, 12)).clamp(0, 1)
        found = lf.restore(model, seen)
        assert float((psnr(found, x) - psnr(naive, x)).mean()) > least, name
    assert torch.equal(found[seen[:, -1:] > 0], x[seen[:, -1:] > 0])  # known pixels stay


def test_a_restorer_starts_from_the_linear_filter(runs):
    """It is solved before the first round, kept with the model, and left out where pixels are missing."""
    data = lf.open_data(str(runs / "blobs.npz"))
    model = lf.load(runs / "noise")
    x = data.test[torch.arange(20)].image
    seen = spoil(x, model.operator, 1)
    assert float((psnr(model.linear(seen), x) - psnr(seen, x)).mean()) > 3
    anew = Restorer(data.image_shape, operator="noise:0.5", width=8, fine=4)
    anew.meet(data.train)
    assert torch.equal(anew.linear.weight, model.linear.weight)
    assert not list(anew.linear.parameters())  # no player moves it
    assert lf.load(runs / "hole").linear is None


def test_evaluate_says_what_restoring_gains(runs):
    rows = {r["measure"]: r["value"] for r in lf.evaluate(lf.load(runs / "noise"), lf.open_data(str(runs / "blobs.npz")),
                                                          metrics=("own",))}  # fmt: skip
    assert rows["restored_mse"] < 0.5 * rows["spoilt_mse"]
    assert list((runs / "noise" / "previews").glob("restorations-*.png"))
    for name, shown in (("noise", True), ("vae", False)):
        page = write_report(Run.open(runs / name)).read_text(encoding="utf-8")
        assert ("in threes: degraded, restored, original" in page) == shown
    assert "lf.restore" in (runs / "noise" / "model" / "README.md").read_text()


def test_a_restorer_takes_images_of_other_sizes(runs):
    model = lf.load(runs / "small")
    assert lf.restore(model, images(2, (1, 9, 21))).shape == (2, 1, 18, 42)
    assert model.restore(images(2, (1, 9, 21)), (17, 41)).shape == (2, 1, 17, 41)
    refused(lambda: lf.evaluate(model, images(30, (3, 12, 12)), metrics="own"), "do not fit")


def test_batches_do_not_matter(runs):
    model, x = lf.load(runs / "noise"), images(300, (1, 12, 12))
    torch.testing.assert_close(lf.restore(model, x)[280:], lf.restore(model, x[280:]))


def test_a_restorer_undoes_what_it_was_trained_for_alone(runs):
    model = lf.load(runs / "noise")
    x = images(2, (1, 12, 12))
    assert torch.equal(lf.restore(model, x, "noise:0.5"), lf.restore(model, x))
    with pytest.raises(InputError, match=r"trained to undo noise:0\.5"):
        lf.restore(model, x, "blur:1")
    with pytest.raises(InputError, match="do not fit"):
        lf.restore(model, images(2, (3, 12, 12)))
    with pytest.raises(InputError, match="leaves nothing"):
        restorer_of((1, 12, 12), task="inpaint")
    with pytest.raises(InputError, match="no operator"):
        restorer_of(operator="nonsense:1")


@pytest.mark.parametrize("similarity", ["critic", "style", "adversarial"])
def test_what_the_critic_says_reaches_the_network_and_not_the_other_way(similarity):
    model = restorer_of(similarity=similarity, critic_width=4, pixel=0.0, weight=0.7, operator="blur:1")
    t, again, batch = Clock(), Clock(), tiny_data((1, 12, 12)).train[torch.arange(8)]
    t.start_round(), again.start_round()
    (move,) = model.play(iter([batch]), t)
    assert set(move) == {"critic", "restorer"}
    own = list(model.net.parameters())
    assert all(g is None for g in torch.autograd.grad(move["critic"], own, retain_graph=True, allow_unused=True))
    slopes = torch.autograd.grad(move["restorer"], own, allow_unused=True)
    assert sum(float(g.abs().sum()) for g in slopes if g is not None) > 0
    shown = model.rebuild(model.spoilt(batch.image, again), (12, 12))
    (_, a), (verdict, b) = model.critic.features(batch.image), model.critic.features(shown)
    expected = {
        "critic": 0.5 * (a - b).square().flatten(1).sum(1).mean(),
        "style": (gram(a) - gram(b)).square().flatten(1).sum(1).mean(),
        "adversarial": torch.nn.functional.softplus(-verdict).mean(),
    }[similarity]
    torch.testing.assert_close(move["restorer"], 0.7 * expected, rtol=1e-4, atol=1e-6)


# ---- any decoder -------------------------------------------------------------------------------------------------------


def test_a_decoder_restores_its_own_images(runs):
    """What a VAE drew, through each operator and back: nearer than the naive restoration."""
    model = lf.load(runs / "vae")
    x = model.sample(6, seed=5).cpu()
    for text in ("noise:0.3", "downsample:3", "hole:6"):
        operator = parse(text)
        seen = spoil(x, operator, 2)
        found = lf.restore(model, seen, operator, steps=60)
        assert torch.equal(found, lf.restore(model, seen, operator, steps=60))
        naive = operator.naive(seen, (12, 12)).clamp(0, 1)
        assert float((found - x).square().mean()) < 0.5 * float((naive - x).square().mean()), text


def test_the_prior_pulls_codes_towards_the_likely(runs):
    model = lf.load(runs / "vae")
    seen = spoil(model.sample(6, seed=5).cpu(), parse("noise:0.5"), 2)
    free, held = (invert(model, seen, steps=80, operator=parse("noise:0.5"), prior=p) for p in (0.0, 1.0))
    assert model.log_prior(held).mean() > model.log_prior(free).mean()


def test_models_that_cannot_restore_say_so(runs):
    with pytest.raises(InputError, match="say what"):
        lf.restore(lf.load(runs / "vae"), images(2, (1, 12, 12)))
    with pytest.raises(InputError, match="--image-size 4x4"):
        lf.restore(lf.load(runs / "vae"), images(2, (1, 12, 12)), "downsample:3")
    blind = lf.create("autoencoder", image_shape=(1, 12, 12), net="mlp", hidden=(8,))
    with pytest.raises(InputError, match="nothing to draw codes from"):
        lf.restore(blind, images(2, (1, 12, 12)), "noise:0.5")
    with pytest.raises(InputError, match="no decoder"):
        invert(lf.load(runs / "noise"), images(2, (1, 12, 12)))
    with pytest.raises(InputError, match="makes no images from codes"):
        lf.interpolate(lf.load(runs / "noise"), torch.zeros(1, 2), torch.zeros(1, 2))


# ---- the verb ----------------------------------------------------------------------------------------------------------


def test_spoil_and_measure(runs, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert main(["restore", str(runs / "noise"), "--spoil", "--out", str(out), "--json", "-n", "10"]) == 0
    rows = {r["measure"]: r for r in json.loads(capsys.readouterr().out)}
    assert rows["psnr"]["restored"] > rows["psnr"]["spoilt"] + 3
    assert rows["psnr"]["images"] == 10
    assert set(rows) == {"psnr", "ssim"}
    assert Image.open(out).width == 2 + 12 * 14  # four times spoilt, restored, original
    vae = [
        "restore",
        str(runs / "vae"),
        "--task",
        "inpaint",
        "--operator",
        "hole:4",
        "--spoil",
        "-n",
        "3",
        "--steps",
        "5",
    ]
    assert main([*vae, "--out", str(tmp_path / "a.npz")]) == 0
    with np.load(tmp_path / "a.npz") as f:
        assert {f[k].shape for k in ("images", "spoilt", "originals")} == {(3, 12, 12, 1)}


def test_seed_and_steps_are_passed_on(runs, tmp_path):
    words, found = ["restore", str(runs / "vae"), "--operator", "noise:0.5", "--spoil", "-n", "4"], []
    for flags in (["--steps", "20"], ["--steps", "20", "--seed", "1"], ["--steps", "1"]):
        assert main([*words, *flags, "--out", str(tmp_path / "x.npz")]) == 0
        with np.load(tmp_path / "x.npz") as f:
            found.append((f["spoilt"], f["images"]))
    first, other, short = found
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(first[0], short[0])
    assert not np.array_equal(first[1], short[1])


def test_a_folder_and_a_single_image(runs, tmp_path, capsys):
    folder = tmp_path / "spoilt"
    folder.mkdir()
    x = blob_images(runs)[:3]
    seen = spoil(x, parse("clipped:0.5"))
    for i, array in enumerate(to_uint8(seen)):
        picture(array).save(folder / f"{i}.png")
    assert main(["restore", str(runs / "noise"), "--in", str(folder), "--out", str(tmp_path / "clean")]) == 0
    assert sorted(p.name for p in (tmp_path / "clean").iterdir()) == ["0.png", "1.png", "2.png"]  # as in the folder
    found = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "clean").iterdir())]
    expected = lf.restore(lf.load(runs / "noise"), torch.as_tensor(to_uint8(seen)).permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_array_equal(np.stack(found), to_uint8(expected)[..., 0])
    one = tmp_path / "one.png"
    assert main(["restore", str(runs / "small"), "--in", str(folder / "0.png"), "--out", str(one)]) == 0
    assert Image.open(one).height == 24 + 4
    mask = np.full((12, 12), 255, np.uint8)
    mask[2:5, 3:9] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    whole = ["restore", str(runs / "hole"), "--in", str(folder), "--mask", str(tmp_path / "mask.png")]
    assert main([*whole, "--out", str(tmp_path / "filled.npz")]) == 0
    with np.load(tmp_path / "filled.npz") as f:
        same = f["images"][..., 0] == to_uint8(seen)[..., 0]
    assert same[:, mask == 255].all()
    assert not same[:, mask == 0].all()


def test_a_folder_of_several_sizes(runs, tmp_path, capsys, monkeypatch):
    """A restorer gives each image back in its own size; what needs one size says so, with what to do."""
    folder, expected = tmp_path / "photos", {}
    for sub in ("a", "more"):
        (folder / sub).mkdir(parents=True)
    model = lf.load(runs / "noise")
    for name, (h, w) in {"a/IMG_1.png": (12, 12), "a/img_1.bmp": (17, 20), "more/b.png": (9, 30)}.items():
        array = np.random.default_rng(h).integers(0, 256, (h, w), np.uint8)
        Image.fromarray(array).save(folder / name)
        expected[h, w] = to_uint8(lf.restore(model, torch.from_numpy(array)[None, None].float() / 255))[0, ..., 0]
    words = ["restore", str(runs / "noise"), "--in", str(folder)]
    assert main([*words, "--out", str(tmp_path / "sheet.png")]) == 2
    assert "3 sizes" in (said := capsys.readouterr().err)
    assert "name a directory with --out" in said
    search = ["restore", str(runs / "vae"), "--operator", "downsample:3", "--in", str(folder)]
    assert main([*search, "--out", str(tmp_path / "found")]) == 2
    assert "add --image-size 4x4" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]

    assert main([*words, "--out", str(tmp_path / "clean")]) == 0
    files = sorted((tmp_path / "clean").iterdir())
    assert [f.name for f in files] == ["a-IMG_1-000000.png", "a-img_1-000001.png", "more-b.png"]  # on any file system
    for file, (h, w) in zip(files, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), expected[h, w])
    assert main([*words, "-n", "2", "--out", str(tmp_path / "two")]) == 0
    assert len(list((tmp_path / "two").iterdir())) == 2

    whole = (folder / "more" / "b.png").read_bytes()
    (folder / "more" / "cut.png").write_bytes(whole[:-40])  # its header is whole
    with monkeypatch.context() as patch:
        patch.setattr(lf, "restore", lambda *a: pytest.fail("restored before all were read"))
        assert main([*words, "--out", str(tmp_path / "some")]) == 2
    said = capsys.readouterr().err
    assert "1 image of 4 cannot be used: more/cut.png" in said
    assert "--skip-bad" in said
    (folder / "more" / "cut.png").unlink()

    (folder / "a" / "bad.png").write_bytes(b"x")
    assert main([*words, "--out", str(tmp_path / "some")]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert not (tmp_path / "some").exists()
    assert main([*words, "--skip-bad", "--out", str(tmp_path / "some")]) == 0
    assert "1 of 4 images could not be used" in capsys.readouterr().err
    assert len(list((tmp_path / "some").iterdir())) == 3


def test_no_two_files_get_one_name():
    names = file_names(["a-000001.png", "a.jpg", "a.png", "A.gif", "b/c.png"])
    assert names == ["a-000001.png", "a-000002.png", "a-000003.png", "A-000004.png", "b-c.png"]


@pytest.mark.parametrize("name", ["sheet.png", "arrays.npz", "folder"])
def test_spoiling_where_pixels_are_cut_off(name, tmp_path, capsys):
    """Ten pixels in threes leave one over: what is restored is as large as the original all the same."""
    model = restorer_of((1, 10, 10), task="superres", operator="downsample:3")
    model.save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "x.npz", images=to_uint8(images(6, (1, 10, 10))))
    words = ["restore", tmp_path / "model", "--spoil", "--data", tmp_path / "x.npz", "--out", tmp_path / name]
    assert main([str(w) for w in words]) == 0
    assert "psnr" in capsys.readouterr().out


def test_bytes_are_no_shades_beyond_white(runs):
    model = lf.load(runs / "vae")
    x = blob_images(runs)[:2]
    whole = (255 * x).round().to(torch.uint8)
    a, b = (lf.restore(model, seen, "hole:4", steps=2) for seen in (x, whole))
    assert torch.allclose(a, b, atol=1e-5)
    assert b.max() <= 1


def test_colour_is_not_given_up_unasked(runs, tmp_path, capsys):
    colour, out = tmp_path / "colour.png", tmp_path / "out.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)).save(colour)
    command = ["restore", str(runs / "noise"), "--in", str(colour), "--out", str(out)]
    assert main(command) == 2
    assert "images of 3 channel(s) do not fit the model's 1; add --channels 1" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--channels", "1"]) == 0
    assert out.exists()


def test_a_page_of_a_restorer_has_no_latent_space(runs):
    assert LEARNED(Run.open(runs / "noise")) is None
    page = write_report(Run.open(runs / "noise")).read_text(encoding="utf-8")
    assert "What it restores" in page
    assert f"--in IMAGES --out {runs / 'noise' / 'restored'}" in page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["noise"], "--in, or degrade"), (["noise", "--spoil", "--in", "x"], "--in, or degrade"),
        (["noise", "--task", "deblur", "--spoil"], "was trained for denoise"),
        (["noise", "--operator", "noise:0.4", "--spoil"], "noise:0.5, not noise:0.4"),
        (["vae", "--spoil"], "say what"), (["vae", "--operator", "nois:1", "--spoil"], "Did you mean 'noise'"),
        (["noise", "--in", "nowhere.png"], "nowhere.png"), (["noise", "--spoil", "--mask", "nowhere.png"], "nowhere.png"),
        (["noise", "--spoil", "--out", "x.jpg"], "x.jpg"), (["vae", "--task", "inpaint", "--spoil"], "leaves nothing"),
        (["vae", "--operator", "pixels:0.5", "--in", "blobs.npz"], "give a mask"),
        (["vae", "--task", "deblur", "--operator", "hole:4", "--spoil"], "not what --task deblur undoes"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(words, line, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    before = sorted(runs.rglob("*"))
    assert main(["restore", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert line in said
    assert "\n" not in said
    assert sorted(runs.rglob("*")) == before


# ---- the benchmark -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["noise:0.3", "clipped:0.3", "blur:1", "downsample:3", "faded:0.5"])
def test_the_linear_estimator_is_a_regression(text):
    """On Gaussian images it is what least squares finds from very many pairs of image and observation."""
    rng, shape = np.random.default_rng(0), (1, 4, 4)
    root = rng.normal(size=(16, 16)) * 0.03
    pixels = np.clip(0.5 + rng.normal(size=(60_000, 16)) @ root, 0, 1).reshape(-1, *shape).astype(np.float32)
    parts = [lf.data.Images(torch.as_tensor(p)) for p in (pixels[:59_000], pixels[59_000:59_500], pixels[59_500:])]
    data = lf.Dataset("gauss", "drawn", *parts)
    linear, operator = benchmark.Linear(data), parse(text)
    x = data.train.pixels
    seen = spoil(x, operator, 1).flatten(1).double().numpy()
    design = np.c_[seen, np.ones(len(seen))]
    weights = np.linalg.lstsq(design, x.flatten(1).double().numpy(), rcond=None)[0]
    expected = np.clip(design[:500] @ weights, 0, 1)
    found = linear(operator, spoil(x, operator, 1)[:500]).flatten(1).numpy()
    spread = x.flatten(1).numpy().std()
    assert np.abs(found - expected).mean() < 0.03 * spread


def test_the_linear_estimator_fills_holes():
    rng = np.random.default_rng(0)
    pixels = np.clip(0.5 + rng.normal(size=(2000, 16)) @ rng.normal(size=(16, 16)) * 0.03, 0, 1).astype(np.float32)
    parts = [
        lf.data.Images(torch.as_tensor(p.reshape(-1, 1, 4, 4)))
        for p in (pixels[:1900], pixels[1900:1950], pixels[1950:])
    ]
    linear, operator = benchmark.Linear(lf.Dataset("gauss", "drawn", *parts)), parse("pixels:0.5")
    seen = spoil(parts[2].pixels, operator, 1)
    found = linear(operator, seen)
    known, fitted = seen[0, -1].flatten().numpy() > 0, pixels[:1950].astype(np.float64)
    design = np.c_[fitted[:, known], np.ones(len(fitted))]
    weights = np.linalg.lstsq(design, fitted[:, ~known], rcond=None)[0]
    expected = np.clip(np.r_[pixels[1950][known], 1] @ weights, 0, 1)
    np.testing.assert_allclose(found[0].flatten().numpy()[~known], expected, atol=2e-3)
    assert torch.equal(found[0].flatten()[known], seen[0, 0].flatten()[known])


def test_the_table_has_a_row_for_each_finished_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    assert "make restore" in benchmark.table()
    score = {"psnr": 20.0, "ssim": 0.5, "inside": 0.05}
    for cell in ("mnist/noise:0.5", "mnist/hole:14"):
        result = {k: score for k in ("spoilt", "linear", "restorer")} | ({"mean": score} if "hole" in cell else {})
        benchmark.kept(cell).parent.mkdir(exist_ok=True)
        benchmark.kept(cell).write_text(json.dumps(result))
    head, _, *rows = benchmark.table().splitlines()
    assert len(rows) == 2
    assert {r.count("|") for r in rows} == {head.count("|")}


def test_a_single_image_may_be_resized(runs, tmp_path):
    large = tmp_path / "large.png"
    Image.new("L", (40, 30), 128).save(large)
    out = tmp_path / "out.npz"
    assert main(["restore", str(runs / "noise"), "--in", str(large), "--image-size", "12", "--out", str(out)]) == 0
    with np.load(out) as f:
        assert f["images"].shape == (1, 12, 12, 1)


@pytest.mark.parametrize("similarity", ["critic", "style", "adversarial"])
def test_a_clamped_critic_is_not_clamped_within_a_way_back(similarity):
    data = tiny_data((1, 12, 12))
    how = {**TINY, "similarity": similarity, "critic_width": 4, "loss": "wasserstein", "clip_weights": 0.01}
    model = lf.fit("restorer", data, examples=32, batch_size=16, quiet=True, precision="fp32", model_options=how)
    assert all(float(p.detach().abs().max()) < 0.02 for p in model.critic.parameters())


def test_it_steps_once_a_round():
    with pytest.raises(ValueError, match="generator_steps"):
        restorer_of(similarity="adversarial", generator_steps=2)
