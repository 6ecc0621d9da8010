"""A critic as a loss: features against the critic's own, distances against numpy, what is frozen, every model with a critic,
and the example."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import latentforge as lf
from conftest import tiny_data
from latentforge.cli import main
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.losses import CriticFeatures
from latentforge.parts.likeness import gram, squared_error
from latentforge.registry import MODELS, arguments, model_class

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
sys.path.insert(0, str(ROOT / "benchmarks"))

TINY = {
    "latent_dim": 3, "hidden": (8,), "critic_hidden": (8,), "width": 4, "critic_width": 4, "wide": (8,), "num_classes": 3,
}  # fmt: skip
BLIND = {"autoencoder", "denoising-autoencoder", "aae", "vae", "denoising-vae", "cvae", "iwae", "restorer", "ssl-vae"}


def make(name: str, shape=(1, 12, 10), **options) -> Game:
    torch.manual_seed(0)
    known = arguments(model_class(name))
    chosen = {k: v for k, v in TINY.items() if k in known} | options
    if name == "restorer" and options.get("similarity", "pixel") == "pixel":
        del chosen["critic_width"]  # of a critic that it does not have
    return lf.create(name, image_shape=shape, **chosen).eval()


def images(n: int = 6, shape=(1, 12, 10), seed: int = 1) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def test_gram_and_squared_error():
    a, b = torch.randn(3, 4, 5, 2), torch.randn(3, 4, 5, 2)
    loop = np.zeros((3, 4, 4))
    for i in range(3):
        for p in range(5):
            for q in range(2):
                loop[i] += np.outer(a[i, :, p, q], a[i, :, p, q]) / 10
    assert gram(a).numpy() == pytest.approx(loop, abs=1e-5)
    assert squared_error(a, b).numpy() == pytest.approx(((a - b).numpy() ** 2).sum((1, 2, 3)), rel=1e-5)


def test_the_last_layer_is_larsens():
    """The features that `larsen-vae-gan` measures likeness in, and its R = 1/2 ||D_l(x) - D_l(x~)||^2."""
    model = make("larsen-vae-gan")
    loss = CriticFeatures(model, layers=(-1,), reference=images(8))
    x, again = images(), images(seed=2)
    _, wanted = model.look((x, again), None)
    assert torch.allclose(loss.features(x)[0], wanted[0], atol=1e-6)
    larsen = 0.5 * (wanted[0] - wanted[1]).square().flatten(1).sum(1)
    assert torch.allclose(loss(again, x) * loss.scale[0], 2 * larsen, rtol=1e-4)


@pytest.mark.parametrize("name", ["bigan", "joint-vae-gan", "began"])
def test_dense_layers_behind_the_last_convolution_are_left_out(name):
    """They see the image as a whole: the last layer that is left is one of an image's features, and has a style."""
    loss = CriticFeatures(
        make(name, (1, 16, 16), net="conv"), layers=(-1,), distance="style", reference=images(8, (1, 16, 16))
    )
    assert loss.features(images(2, (1, 16, 16)))[0].dim() == 3


@pytest.mark.parametrize("distance", ["features", "style"])
def test_distance_against_numpy(distance):
    """Pixels to [-1, 1], one convolution by hand, the variance over the reference as the scale."""
    model, reference = make("dcgan"), images(20, seed=3)
    loss = CriticFeatures(model, layers=(0,), distance=distance, reference=reference)
    first = next(m for m in model.critic.modules() if isinstance(m, nn.Conv2d))

    def seen(x):
        f = (
            nn.functional.conv2d(2 * x - 1, first.weight, first.bias, first.stride, first.padding)
            .detach()
            .double()
            .numpy()
        )
        return np.einsum("bfhw,bghw->bfg", f, f) / f[0, 0].size if distance == "style" else f

    x, target, r = images(), images(seed=2), seen(reference)
    scale = 2 * r.var(0, ddof=1).sum()
    wanted = ((seen(x) - seen(target)) ** 2).reshape(6, -1).sum(1) / scale
    assert loss(x, target).numpy() == pytest.approx(wanted, rel=1e-4)
    apart = [((r[i] - r[j]) ** 2).sum() for i in range(20) for j in range(20) if i != j]
    assert np.mean(apart) / scale == pytest.approx(1)  # "as far apart as any two images"


def test_layers_are_averaged_and_the_range_is_the_users():
    model, x, target = make("dcgan", shape=(3, 32, 32)), images(4, (3, 32, 32)), images(4, (3, 32, 32), 2)
    every = CriticFeatures(model, reference=images(9, (3, 32, 32), 3))
    assert len(every.layers) > 1
    each = [CriticFeatures(model, layers=(k,), reference=images(9, (3, 32, 32), 3)) for k in every.layers]
    assert torch.allclose(every(x, target), torch.stack([c(x, target) for c in each]).mean(0), rtol=1e-5)
    shifted = CriticFeatures(model, reference=images(9, (3, 32, 32), 3), pixel_range=(-1.0, 1.0))
    assert torch.allclose(shifted(2 * x - 1, 2 * target - 1), every(x, target), rtol=1e-4)


@pytest.mark.parametrize("options", [
    {}, {"spectral_norm": True}, {"minibatch": 4}, {"net": "larsen"}, {"net": "mlp"}, {"generator_dropout": 0.2},
])  # fmt: skip
def test_only_the_image_takes_a_gradient_and_nothing_moves(options):
    shape = (1, 28, 28) if options.get("net") == "larsen" else (1, 12, 10)
    model = make("larsen-vae-gan", shape, **options)
    loss = CriticFeatures(model, reference=images(8, shape)).train()
    before = {k: v.clone() for k, v in loss.state_dict().items()}
    x, target = images(4, shape).requires_grad_(), images(4, shape, 2).requires_grad_()
    first = loss(x, target)
    first.sum().backward()
    assert x.grad.abs().sum() > 0
    assert target.grad is None
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())
    assert all(p.grad is None and p.requires_grad for p in model.critic.parameters())
    for k, v in loss.state_dict().items():
        assert torch.equal(v, before[k]), k
    assert torch.allclose(torch.cat([loss(x[i : i + 1], target[i : i + 1]) for i in range(4)]), first, rtol=1e-4)
    with torch.no_grad():
        for p in model.critic.parameters():
            p.add_(1)
    assert torch.equal(loss(x, target), first)


def test_the_gradient_is_that_of_the_distance():
    loss = CriticFeatures(make("r3gan"), reference=images(8)).double()
    x, target = images(1).double().requires_grad_(), images(1, seed=2).double()
    (slope,) = torch.autograd.grad(loss(x, target).sum(), x)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        change = (loss(x + 0.01 * way, target) - loss(x - 0.01 * way, target)).sum() / 0.02
    assert float((slope * way).sum()) == pytest.approx(float(change), rel=1e-2)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_model_has_eyes_or_says_that_it_has_none(name):
    model = make(name)
    if name in BLIND:
        with pytest.raises(InputError, match=f"{name} has no critic of images"):
            CriticFeatures(model)
        return
    loss = CriticFeatures(model, reference=images(8))
    x, y = images().requires_grad_(), torch.arange(6) % 3
    assert torch.equal(loss(images(), images(), y), torch.zeros(6))
    loss(x, images(seed=2), y).sum().backward()
    assert (x.grad.abs().flatten(1).sum(1) > 0).all()


def test_a_critic_that_is_shown_the_class():
    told = CriticFeatures(make("cgan", how="concat"), reference=images(8))
    x, target = images(), images(seed=2)
    assert not torch.allclose(told.features(x, torch.zeros(6).long())[0], told.features(x, torch.ones(6).long())[0])
    with pytest.raises(InputError, match="a label for every image"):
        told(x, target)
    free = CriticFeatures(make("cgan", how="concat", drop=0.1), reference=images(8))
    assert torch.isfinite(free(x, target)).all()
    beside = CriticFeatures(make("cgan", how="projection"), reference=images(8))
    assert torch.equal(beside(x, target), beside(x, target, torch.ones(6).long()))


def test_scaled_by_samples_of_the_model():
    model = make("cgan", how="concat")
    y = model.draw_labels(256, seed=0)
    given = CriticFeatures(model, reference=model.sample(256, label=y, seed=0))
    assert torch.allclose(CriticFeatures(model).scale, given.scale)


def test_what_cannot_be(tmp_path):
    model, x = make("dcgan"), images()
    cases = [
        (lambda: CriticFeatures(model, distance="cosine"), "choose features or style"),
        (lambda: CriticFeatures(model, layers=(7,)), "there is no layer 7"),
        (lambda: CriticFeatures(model, layers=()), "at least one"),
        (lambda: CriticFeatures(model, pixel_range=(1.0, 1.0)), "no range"),
        (lambda: CriticFeatures(model, reference=x[:1]), "at least two"),
        (lambda: CriticFeatures(model, reference=x[:1].expand(5, -1, -1, -1)), "look the same"),
        (lambda: CriticFeatures(make("gan"), distance="style", reference=x), "dense"),
        (lambda: CriticFeatures(make("bigan", net="mlp"), reference=x), "no layer that sees images alone"),
        (lambda: CriticFeatures(model, reference=x)(x, x[:3]), "differ in shape"),
        (lambda: CriticFeatures(model, reference=x)(images(2, (1, 9, 9)), images(2, (1, 9, 9))), "do not fit"),
        (lambda: CriticFeatures(tmp_path / "nowhere"), "nowhere"),
    ]
    for call, words in cases:
        with pytest.raises(InputError, match=words):
            call()


def test_the_example_trains_a_network_of_ones_own(tmp_path, capsys):
    """From a run on disk; more steps bring the reconstructions nearer to the images in the critic's features."""
    import critic_as_loss

    pixels, run = tiny_data(n=60).train.pixels.numpy()[:, 0], str(tmp_path / "run")
    np.savez(tmp_path / "d.npz", images=pixels)
    data = ["--data", str(tmp_path / "d.npz")]
    train = ["train", "dcgan", *data, "--width", "4", "--latent-dim", "4", "--examples", "64", "--batch-size", "16"]
    assert main([*train, "--quiet", "--out", run]) == 0
    few = critic_as_loss.main([run, *data, "--steps", "5"])
    many = critic_as_loss.main([run, *data, "--steps", "60"])
    assert many["critic"] < few["critic"]
    assert "critic's features" in capsys.readouterr().out


def test_the_benchmark_measures_and_says_so(tmp_path):
    import critic_loss

    assert "Not measured yet" in critic_loss.table(tmp_path)
    data, model = tiny_data(n=200), make("dcgan", (1, 28, 28), latent_dim=4)
    for cell in critic_loss.CELLS:
        result = critic_loss.measure(cell, 0, data, model, steps=4, results=tmp_path)
        assert 0 < result["mse"] < 1
    rows = critic_loss.table(tmp_path).splitlines()
    assert len(rows) == 2 + len(critic_loss.CELLS) + 1
    blurred = nn.functional.avg_pool2d(data.test[torch.arange(40)].image, 3, 1, 1)
    assert critic_loss.steepness(blurred) < critic_loss.steepness(data.test[torch.arange(40)].image)
