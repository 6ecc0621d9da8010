"""What conditional models are told: labels and descriptors as numbers, what a user may ask for, the critics that judge by
it, and that models draw what was asked."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge.api import create_for, told_by
from latentforge.cli import main
from latentforge.data import Dataset, Images
from latentforge.nets.condition import Descriptor, Label, Plane, condition_for
from latentforge.report.grid import to_uint8
from playing import assert_same, build, clock, d, feed, gradients, images, step, taken
from test_contract import VARIANTS
from test_contract import build as build_variant

CONDITIONAL = ["cvae", "cgan", "cvae-gan"]
B, Z = 6, 3
SMALL = {"net": "mlp", "hidden": (8,), "latent_dim": Z}
MANY = 20_000


def critics(name: str) -> dict:
    return {"critic_hidden": (10, 7)} if name == "cgan" else {}


def near(found: Tensor, expected: Tensor, n: int) -> None:
    """Shares of n draws within five standard deviations."""
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt() + 1e-9).all(), (found, expected)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- labels ----------------------------------------------------------------------------------------------------------
def test_labels_are_one_hot_and_none_is_zeros():
    c = Label(4)
    c.drop = 0.1
    expected = [[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert c(torch.tensor([2, 0, -1, 3]), 4).tolist() == expected
    assert torch.equal(c(None, 3), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="num_classes"):
        Label(0)


def test_labels_are_drawn_as_often_as_learned():
    c = Label(5)
    near(torch.bincount(c.draw(MANY, generator()), minlength=5) / MANY, torch.full((5,), 0.2), MANY)
    c.learn(torch.tensor([0] * 6 + [1] * 3 + [4] * 1))
    found = c.draw(MANY, generator())
    near(torch.bincount(found, minlength=5) / MANY, torch.tensor([0.6, 0.3, 0.0, 0.0, 0.1]), MANY)
    assert torch.equal(found, c.draw(MANY, generator()))
    assert not torch.equal(found, c.draw(MANY, generator(1)))
    assert "share" in c.state_dict()


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (2, [2, 2, 2]), (-1, [-1, -1, -1]), ([0, 4, -1], [0, 4, -1]), (np.int64(1), [1, 1, 1]),
        (np.array([0, 1, 2], np.int32), [0, 1, 2]), (torch.tensor([3, 3, 0]), [3, 3, 0]),
        (np.array([0, 1, 4], np.uint8), [0, 1, 4]),  # as read from a file of labels
    ],
    ids=str,
)  # fmt: skip
def test_labels_that_may_be_asked_for(label, expected):
    c = Label(5)
    c.drop = 0.1
    found = c.asked(label, 3)
    assert found.dtype == torch.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("label", "part"),
    [
        (5, "there is no label 5"), (-2, "there is no label -2"), ([0, 1, 7], "there is no label 7"),
        (2.0, "whole number"), ([0.0, 1.0, 2.0], "whole number"), ([0, 1], "3 of them"), ([[0, 1, 2]], "3 of them"),
        ([], "3 of them"), ("three", "whole number"), ([1, [2]], "3 of them"),
    ],
    ids=str,
)  # fmt: skip
def test_labels_that_may_not(label, part):
    refused(lambda: Label(5).asked(label, 3), "label", part)


# -- descriptors -----------------------------------------------------------------------------------------------------
MEAN, STDDEV = (10.0, -3.0, 0.5), (4.0, 0.5, 0.1)


def descriptor(features: int = 7) -> Descriptor:
    torch.manual_seed(0)
    c = Descriptor(MEAN, STDDEV, features)
    with torch.no_grad():
        c.linear.bias.normal_()
        c.log_width.normal_(0.5, 0.3)
    return c


def told(n: int = 5) -> Tensor:
    return torch.tensor(MEAN) + torch.tensor(STDDEV) * torch.randn(n, 3, generator=generator())


def test_descriptor_formula():
    """phi_j = exp(-||h - c_j||^2 / (2 w_j^2)), h a linear layer of the standardised numbers; in loops."""
    c, y = descriptor().requires_grad_(False), told()
    found = c(y, 5)
    assert found.shape == (5, 7)
    weight, bias, centres = (v.double() for v in (c.linear.weight, c.linear.bias, c.centres))
    for i in range(5):
        u = [(float(y[i, k]) - MEAN[k]) / STDDEV[k] for k in range(3)]
        h = [float(bias[r]) + sum(float(weight[r, k]) * u[k] for k in range(3)) for r in range(6)]
        for j in range(7):
            distance = sum((h[r] - float(centres[j, r])) ** 2 for r in range(6))
            expected = math.exp(-distance / (2 * math.exp(float(c.log_width[j])) ** 2))
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert found.std() > 0.01


def test_a_row_of_nan_tells_nothing():
    c, y = descriptor(), told()
    c.drop = 0.1
    y[1], y[3, 2] = math.nan, math.nan
    found = c(y, 5)
    assert (found[[1, 3]] == 0).all()
    torch.testing.assert_close(found[[0, 2, 4]], c(told(), 5)[[0, 2, 4]])
    assert torch.equal(c(None, 4), torch.zeros(4, 7))
    slopes = torch.autograd.grad(found.square().sum(), list(c.parameters()))
    assert all(g.isfinite().all() for g in slopes)


def test_gradients_reach_layer_centres_and_widths():
    """Against finite differences, in float64, each parameter by itself."""
    c, y = descriptor().double(), told().double()
    weigh = torch.randn(5, 7, generator=generator(), dtype=torch.float64)

    def value() -> Tensor:
        return (c(y, 5) * weigh).sum()

    parameters = dict(c.named_parameters())
    assert set(parameters) == {"linear.weight", "linear.bias", "centres", "log_width"}
    slopes = dict(zip(parameters, torch.autograd.grad(value(), list(parameters.values())), strict=True))
    for name, p in parameters.items():
        along = torch.randn(p.shape, generator=generator(1), dtype=torch.float64)
        ends = []
        for way in (1e-6, -1e-6):
            with torch.no_grad():
                p.add_(way * along)
                ends.append(value().item())
                p.sub_(way * along)
        expected = (ends[0] - ends[1]) / 2e-6
        assert abs(expected) > 1e-3
        assert (slopes[name] * along).sum().item() == pytest.approx(expected, rel=1e-5), name


def test_descriptors_begin_at_their_own_distances():
    """The linear layer keeps distances between standardised descriptors."""
    c, y = Descriptor(MEAN, STDDEV, 4), told(6)
    u = (y - torch.tensor(MEAN)) / torch.tensor(STDDEV)
    torch.testing.assert_close(torch.cdist(c.linear(u), c.linear(u)), torch.cdist(u, u), rtol=1e-4, atol=1e-4)


def test_descriptors_are_drawn_from_those_learned():
    c, rows = descriptor(), told(300)
    rows = rows[rows[:, 0].argsort()]
    c.learn(rows)
    found = c.draw(6000, generator())
    assert {tuple(r) for r in found.tolist()} <= {tuple(r) for r in rows.tolist()}
    assert torch.equal(found, c.draw(6000, generator()))
    error = rows.std(0) / math.sqrt(6000)
    assert ((found.mean(0) - rows.mean(0)).abs() < 5 * error + 0.02 * rows.std(0)).all()
    assert len({tuple(r) for r in found.tolist()}) > 280


@pytest.mark.parametrize(
    ("d_", "label", "expected"),
    [
        (2, [0.5, 0.25], [[0.5, 0.25]] * 3), (2, [[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]]),
        (2, torch.tensor([0.5, 0.25], dtype=torch.float64), [[0.5, 0.25]] * 3),
        (3, [1, 2, 3], [[1, 2, 3]] * 3),  # one descriptor for all, not a number for each
        (1, 0.5, [[0.5]] * 3), (1, [1, 2, 3], [[1], [2], [3]]), (1, [[1], [2], [3]], [[1], [2], [3]]),
        (1, [0.5], [[0.5]] * 3),  # as `sample --label .5` asks
    ],
    ids=str,
)  # fmt: skip
def test_descriptors_that_may_be_asked_for(d_, label, expected):
    found = Descriptor((0.0,) * d_, (1.0,) * d_, 4).asked(label, 3)
    assert found.dtype == torch.float32
    assert found.tolist() == expected


def test_minus_1_asks_for_no_descriptor_in_particular():
    for d_ in (1, 3):
        c = Descriptor((0.0,) * d_, (1.0,) * d_, 4)
        c.drop = 0.1
        found = c.asked("none", 2)
        assert found.shape == (2, d_)
        assert found.isnan().all()


def test_a_model_that_always_was_told_cannot_do_without():
    """Where no label was ever dropped in training, none may be left out later."""
    for label in (-1, "none", [0, -1, 2]):
        refused(lambda label=label: Label(5).asked(label, 3), "label", "--drop")
    for label in (-1, "none", [[1.0, 2.0], [math.nan, math.nan], [0.0, 1.0]]):
        refused(lambda label=label: Descriptor((0.0,) * 2, (1.0,) * 2, 4).asked(label, 3), "label", "--drop")
    model = lf.create("cgan", image_shape=(1, 12, 12), num_classes=3)
    refused(lambda: model.decode(torch.zeros(2, model.latent_dim)), "label", "--drop")
    model = lf.create("cvae", image_shape=(1, 12, 12), num_classes=3, drop=0.0)
    refused(lambda: model.reconstruct(torch.zeros(2, 1, 12, 12)), "label", "--drop")


def test_what_is_told_beside_codes_is_checked():
    model = lf.create("cvae", image_shape=(1, 6, 6), num_classes=3, drop=0.0, **SMALL)
    z, x = torch.zeros(4, Z), images(4)
    refused(lambda: model.decode(z, torch.tensor([0, 1, 2, 3])), "no class 3")
    refused(lambda: model.decode(z, torch.tensor([0, 1, 2, -1])), "--drop")
    refused(lambda: lf.interpolate(model, z, z, y=torch.full((4,), 7)), "no class 7")
    for n in (3, 5):
        refused(lambda n=n: model.decode(z, torch.zeros(n).long()), f"{n} labels for 4")
        refused(lambda n=n: model.reconstruct(x, torch.zeros(n).long()), f"{n} labels for 4")


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ([0.5], "2 numbers"), (0.5, "2 numbers"), ([0.5, 0.5, 0.5], "2 numbers"), ([[0.5, 0.5]] * 2, "3 rows"),
        ("wide", "2 numbers"), (["a", "b"], "2 numbers"), ([[1, 2], [3]], "2 numbers"),
    ],
    ids=str,
)  # fmt: skip
def test_descriptors_that_may_not(label, part):
    refused(lambda: Descriptor((0.0, 0.0), (1.0, 1.0), 4).asked(label, 3), "label", part)


def test_a_descriptor_needs_a_spread_for_each_number():
    for mean, stddev in (((0.0, 0.0), (1.0,)), ((0.0,), (0.0,)), ((0.0,), ())):
        with pytest.raises(ValueError, match="descriptor_stddev"):
            Descriptor(mean, stddev, 4)


# -- dropping --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_share_is_not_told(share):
    labels, numbers = torch.randint(3, (MANY,)), torch.randn(MANY, 2)
    for c, y in (
        (condition_for(3, share), labels),
        (condition_for(0, share, (0.0, 0.0), (1.0, 1.0)), numbers),
    ):
        found = c.drop_some(y, clock())
        gone = (found == -1) if y.dim() == 1 else found.isnan().all(1)
        assert torch.equal(found[~gone], y[~gone])
        near(gone.float().mean(), torch.tensor(share), MANY)
        assert found.dtype == y.dtype
        assert not torch.equal(gone, (lambda f: f == -1 if f.dim() == 1 else f.isnan().all(1))(
            c.drop_some(y, clock(round_=4))))  # fmt: skip
        c.drop = 0.0
        assert torch.equal(c.drop_some(y, clock()), y)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_dropped_in_training_alone(name):
    model = build(name, **SMALL, **critics(name), num_classes=3, drop=0.5)
    batch = next(feed(images(400), y=torch.arange(400) % 3))
    assert torch.equal(model.labels_of(batch), batch.label)
    assert 150 < int((model.labels_of(batch, clock()) == -1).sum()) < 250
    plain = next(feed(images(4)))
    assert model.labels_of(plain) is None
    refused(lambda: model.labels_of(plain, clock()), name, "labels")


# -- in the networks -------------------------------------------------------------------------------------------------
Y = torch.tensor([0, 2, 1, -1, 2, 0])
ONE_HOT = torch.eye(3)[Y] * (Y >= 0)[:, None]


def test_plane():
    """One more channel: at each place its own linear function of what is told."""
    plane, x = Plane(3, (2, 4, 5)), images(B, (2, 4, 5))
    out = plane(x, ONE_HOT)
    assert out.shape == (B, 3, 4, 5)
    assert torch.equal(out[:, :2], x)
    weight, bias = plane.linear.weight, plane.linear.bias
    for i in range(B):
        for r in range(4):
            for c in range(5):
                expected = bias[5 * r + c] + (weight[5 * r + c] @ ONE_HOT[i])
                assert out[i, 2, r, c].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("net", [{"net": "mlp"}, {"net": "conv", "width": 4}], ids=str)
def test_projection_critic(net):
    """D(x, y) = psi(h) + <V y, h>; where nothing is told it is the critic's own verdict."""
    model = build("cgan", (1, 12, 12), num_classes=3, how="projection", drop=0.1, critic_hidden=(10, 7), **net).eval()
    x, critic = images(B, (1, 12, 12)) * 2 - 1, model.critic.critic
    inner = critic.head[-1]
    h = critic.head[:-1](critic.body(x)).double()
    v = model.critic.embed.weight.detach().double()
    for i in range(B):
        expected = (inner.bias[0] + inner.weight.double()[0] @ h[i] + (v @ ONE_HOT[i].double()) @ h[i]).item()
        assert model.verdict(x, y=Y)[i].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert not torch.allclose(model.verdict(x, y=Y), model.verdict(x, y=None))
    torch.testing.assert_close(model.verdict(x, y=None), critic(x))
    torch.testing.assert_close(model.verdict(x, y=Y)[3], critic(x)[3])


@pytest.mark.parametrize("net", [{"net": "mlp"}, {"net": "conv", "width": 4}], ids=str)
def test_concat_critic(net):
    """The plain critic on image and plane."""
    model = build("cgan", (1, 12, 12), num_classes=3, how="concat", critic_hidden=(10, 7), **net).eval()
    x, plane = images(B, (1, 12, 12)), model.critic.plane.linear
    channel = (ONE_HOT @ plane.weight.T + plane.bias).reshape(B, 1, 12, 12)
    torch.testing.assert_close(model.verdict(x, y=Y), model.critic.critic(torch.cat([x, channel], 1)))
    assert not torch.allclose(model.verdict(x, y=Y), model.verdict(x, y=(Y + 1) % 3))


@pytest.mark.parametrize("how", ["projection", "concat"])
def test_a_critic_looks_at_several_batches_under_the_same_labels(how):
    model = build("cvae-gan", **SMALL, num_classes=3, how=how)
    batches = [images(B, seed=i) for i in range(3)]
    verdicts, features = model.look(tuple(batches), Y)
    for found, feature, x in zip(verdicts, features, batches, strict=True):
        expected = model.critic.features(x, ONE_HOT)
        torch.testing.assert_close(found, expected[0])
        torch.testing.assert_close(feature, expected[1])


# -- who is told -----------------------------------------------------------------------------------------------------
def test_cvae_round():
    """Encoder and decoder are told the label, and neither of them where it is dropped."""
    model = build("cvae", **SMALL, num_classes=3, drop=0.5)
    y = torch.tensor([0, 2, 1, 1, 2, 0])
    (move,) = model.play(feed(images(B), y=y), clock())
    twin, t, x = copy.deepcopy(model).double(), clock(), images(B).double()
    kept = t.rand(B) >= 0.5
    assert 0 < int(kept.sum()) < B
    hot = torch.eye(3).double()[y] * kept[:, None]
    channel = (hot @ twin.plane.linear.weight.T + twin.plane.linear.bias).reshape(B, 1, 6, 6)
    mean, log_variance = twin.encoder(torch.cat([x, channel], 1)).chunk(2, 1)
    z = mean + (log_variance / 2).exp() * t.randn(B, Z).double()
    p = 1 / (1 + (-twin.decoder(torch.cat([z, hot], 1))).exp())
    loss = -(x * p.log() + (1 - x) * (1 - p).log()).sum() / B
    loss = loss + 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum() / B
    parts = {"vae": [*twin.encoder.parameters(), *twin.decoder.parameters(), *twin.plane.parameters()]}
    assert_same(taken(model, move), gradients({"vae": loss}, parts))


@pytest.mark.parametrize("how", ["projection", "concat"])
def test_cgan_round(how):
    """Generator and critic are told the labels of the batch, real and generated images the same."""
    model = build("cgan", **SMALL, **critics("cgan"), num_classes=3, how=how)
    y = torch.tensor([0, 2, 1, 1, 2, 0])
    twin, t, x = copy.deepcopy(model).double(), clock(), images(B).double() * 2 - 1
    hot = torch.eye(3).double()[y]
    play = model.play(feed(images(B), y=y), clock())

    fake = twin.generator(torch.cat([t.randn(B, Z).double(), hot], 1))
    verdicts = d(twin.critic(x, hot)), d(twin.critic(fake.detach(), hot))
    cost = -verdicts[0].log().mean() - (1 - verdicts[1]).log().mean()
    expected = gradients({"critic": cost}, {"critic": list(twin.critic.parameters())})
    assert_same(taken(model, next(play)), expected)
    step(model, twin, expected)
    cost = -d(twin.critic(fake, hot)).log().mean()
    expected = gradients({"generator": cost}, {"generator": list(twin.generator.parameters())})
    assert_same(taken(model, next(play)), expected)


@pytest.mark.parametrize("how", ["projection", "concat"])
def test_every_player_of_the_cvae_gan_is_told(how):
    found = []
    for y in (torch.zeros(B).long(), torch.ones(B).long()):
        model = build("cvae-gan", **SMALL, num_classes=3, how=how, drop=0.0)
        (move,) = model.play(feed(images(B), y=y), clock())
        found.append(taken(model, move))
    for player in ("encoder", "decoder", "critic"):
        a, b = (torch.cat([g.flatten() for g in grads[player]]) for grads in found)
        assert (a - b).norm() > 0.02 * a.norm(), player


# -- trained ---------------------------------------------------------------------------------------------------------
def unbalanced() -> Dataset:
    """Three classes, seen 6 : 3 : 1."""
    data = tiny_data((1, 6, 6), 100)
    parts = [data.train, data.validation, data.test]
    return Dataset("unbalanced", "unbalanced", *[
        Images(p.pixels, torch.tensor(([0, 0, 1, 0, 0, 1, 0, 0, 1, 2] * 10)[: len(p)])) for p in parts
    ])  # fmt: skip


def described(columns: int = 2) -> Dataset:
    """Descriptors in units of their own."""
    data = tiny_data((1, 6, 6), 60)
    return Dataset("described", "described", *[
        Images(p.pixels, 5 + 3 * torch.randn(len(p), columns, generator=generator(i)))
        for i, p in enumerate((data.train, data.validation, data.test))
    ])  # fmt: skip


def train(name: str, data: Dataset, out=None, **options) -> lf.Game:
    return lf.fit(name, data, examples=64, batch_size=16, quiet=True, device="cpu", out=out,
                  model_options=SMALL | critics(name) | options)  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> dict[str, lf.Game]:
    return {name: train(name, unbalanced(), drop=0.1) for name in CONDITIONAL}


def made_by_hand(model, codes: Tensor, y: Tensor) -> Tensor:
    """Codes and one-hot labels through the network."""
    z = torch.cat([codes, torch.eye(3)[y] * (y >= 0)[:, None]], 1)
    with torch.no_grad():
        return (model.generator(z) + 1) / 2 if model.name == "cgan" else torch.sigmoid(model.decoder(z))


@pytest.mark.parametrize("name", CONDITIONAL)
def test_samples_show_what_is_asked_for(trained, name):
    model = trained[name]
    by_label = []
    for label in (2, 0, -1, [2, 0, 1, 1, -1]):
        y = torch.tensor(label).expand(5)
        found = model.sample(5, label=label, seed=3)
        torch.testing.assert_close(found, made_by_hand(model, model.draw_codes(5, 3, y), y).clamp(0, 1))
        assert torch.equal(found, model.sample(5, label=label, seed=3))
        by_label.append(found)
    assert not torch.allclose(by_label[0], by_label[1], atol=1e-3)
    if name == "cgan":  # the others draw each class's codes from a density of its own
        torch.testing.assert_close(by_label[3][0], by_label[0][0])


@pytest.mark.parametrize("name", CONDITIONAL)
def test_labels_stay_with_their_codes_in_parts(trained, name, monkeypatch):
    model, z, y = trained[name], torch.randn(11, Z), torch.arange(11) % 3
    whole = model.decode(z, y)
    torch.testing.assert_close(whole, made_by_hand(model, z, y).clamp(0, 1))
    torch.testing.assert_close(model.decode(z, y, batch=4), whole)
    if model.has_encoder:
        x = images(11)
        alone = torch.cat([model.reconstruct(a[None], k[None]) for a, k in zip(x, y, strict=True)])
        monkeypatch.setattr("latentforge.data.batch.NUMBERS", 36 * 4)
        torch.testing.assert_close(model.reconstruct(x, y), alone)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_samples_without_a_label_follow_the_training_images(trained, name):
    model = trained[name]
    counts = torch.bincount(unbalanced().train.labels).float()
    y = model.draw_labels(3000, seed=0)
    near(torch.bincount(y, minlength=3) / 3000, counts / counts.sum(), 3000)
    assert torch.equal(y, model.draw_labels(3000, seed=0))
    assert not torch.equal(y, model.draw_labels(3000, seed=1))
    assert torch.equal(model.sample(20, seed=5), model.sample(20, seed=5, label=model.draw_labels(20, seed=5)))
    refused(lambda: model.sample(4, label=3), "there is no label 3")
    refused(lambda: model.sample(4, label=[0, 1]), "4 of them")


def test_frequencies_are_saved(trained, tmp_path):
    trained["cgan"].save_pretrained(tmp_path / "model")
    assert torch.equal(lf.load(tmp_path / "model").draw_labels(50, seed=1), trained["cgan"].draw_labels(50, seed=1))


class Marked(nn.Module):
    """A sampler whose codes say which class they were drawn for."""

    kind, classes = "gmm", 3

    def draw(self, n: int, generator: torch.Generator, labels: Tensor) -> Tensor:
        return labels.float()[:, None].expand(n, Z)


def test_codes_come_from_the_sampler_of_the_class_asked_for(trained):
    model = copy.deepcopy(trained["cvae-gan"])
    assert model.sampler.classes == 3
    model.sampler = Marked()
    assert model.draw_codes(4, 0, torch.tensor([2, 0, 1, 2]))[:, 0].tolist() == [2, 0, 1, 2]
    counts = torch.bincount(unbalanced().train.labels).float()
    for nothing in (None, torch.full((3000,), -1)):
        codes = model.draw_codes(3000, 0, nothing)[:, 0].long()
        near(torch.bincount(codes, minlength=3) / 3000, counts / counts.sum(), 3000)


def test_descriptors_that_are_trained_on():
    data = described()
    model = train("cvae", data)
    assert isinstance(model.condition, Descriptor)
    found = model.sample(3, label=[4.0, 6.5], seed=1)
    codes, told_ = model.draw_codes(3, 1), model.condition(torch.tensor([[4.0, 6.5]] * 3), 3)
    with torch.no_grad():
        torch.testing.assert_close(found, torch.sigmoid(model.decoder(torch.cat([codes, told_], 1))))
    nothing = torch.sigmoid(model.decoder(torch.cat([codes, torch.zeros_like(told_)], 1))).detach()
    torch.testing.assert_close(model.sample(3, label=-1, seed=1), nothing)
    assert not torch.allclose(found, nothing, atol=1e-4)
    rows = {tuple(r) for r in data.train.labels.tolist()}
    assert {tuple(r) for r in model.draw_labels(50, seed=0).tolist()} <= rows


@pytest.mark.parametrize("name", [n for n in lf.list_models() if n not in (*CONDITIONAL, "ssl-vae")])
def test_models_that_are_told_nothing_refuse_labels(name):
    model = build_variant(name, VARIANTS[name][0])
    refused(lambda: model.sample(2, label=0), name, "not conditioned on labels", "cvae")
    assert model.draw_labels(2) is None


# -- what follows from the data --------------------------------------------------------------------------------------
def test_told_by():
    classes, numbers = unbalanced(), described()
    for name in CONDITIONAL:
        assert told_by(name, classes) == {"num_classes": 3}
        bare = Dataset("bare", "bare", *[Images(p.pixels) for p in (classes.train, classes.validation, classes.test)])
        refused(lambda bare=bare, name=name: told_by(name, bare), name, "bare", "labels")
        assert told_by("vae", bare) == told_by("vae", classes) == {}
    found = told_by("cvae", numbers)
    values = numbers.train.labels.double().numpy()
    assert set(found) == {"descriptor_mean", "descriptor_stddev"}
    np.testing.assert_allclose(found["descriptor_mean"], values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["descriptor_stddev"], values.std(0, ddof=1), rtol=1e-6)
    for name in ("cgan", "cvae-gan"):
        refused(lambda name=name: told_by(name, numbers), name, "descriptors", "cvae")


def test_a_class_that_only_the_test_images_show_counts():
    data = unbalanced()
    data.test.labels[0] = 4
    assert told_by("cvae", data) == {"num_classes": 5}


def test_a_descriptor_without_spread_is_no_division_by_zero():
    data = described()
    data.train.labels[:, 1] = 2.0
    found = told_by("cvae", data)
    assert found["descriptor_stddev"][1] == 1e-6
    model = create_for("cvae", data, 0, SMALL)
    assert model.condition(data.train.labels[:4], 4).isfinite().all()


def test_arguments_given_win():
    assert create_for("cgan", unbalanced(), 0, SMALL | critics("cgan") | {"num_classes": 7}).condition.size == 7
    model = create_for("cvae", described(), 0, SMALL | {"features": 11})
    assert model.condition.size == 11
    assert model.args["descriptor_mean"] == told_by("cvae", described())["descriptor_mean"]


@pytest.mark.parametrize(
    ("made_for", "data"),
    [
        ({"num_classes": 2}, unbalanced),
        ({"descriptor_mean": (0.0, 0.0), "descriptor_stddev": (1.0, 1.0)}, unbalanced),
        ({"num_classes": 3}, described),
        ({"descriptor_mean": (0.0,) * 3, "descriptor_stddev": (1.0,) * 3}, described),
        ({"descriptor_mean": (0.0,), "descriptor_stddev": (1.0,)}, described),
    ],
    ids=["fewer classes", "descriptors for classes", "classes for descriptors", "3 for 2 numbers", "1 for 2 numbers"],
)
def test_a_model_made_for_other_labels_is_refused(made_for, data):
    model = lf.create("cvae", image_shape=(1, 6, 6), **SMALL, **made_for)
    refused(lambda: lf.fit(model, data(), examples=16, batch_size=8, quiet=True, device="cpu"), "create the model with")


# -- the command -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train("cvae", unbalanced(), out=folder / "classes")
    for name, classes in (("numbers", ["1", "2", "7"]), ("words", ["cat", "dog", "owl"])):
        data = unbalanced()
        data.classes = classes
        train("cvae", data, out=folder / name)
    train("cvae", described(2), out=folder / "two")
    train("cvae", described(1), out=folder / "one")
    train("vae", unbalanced(), out=folder / "vae")
    return folder


def sampled(run, *flags: str, n: int = 9):
    out = run.parent / "out.npz"
    assert main(["sample", str(run), "-n", str(n), "--seed", "5", *flags, "--out", str(out)]) == 0
    return np.load(out)


@pytest.mark.parametrize(
    ("flags", "asked"), [(["--label", "2"], 2), (["--label=-1"], -1), (["--label", "none"], -1), ([], None)], ids=str
)
def test_sample_command(runs, flags, asked):
    found, model = sampled(runs / "classes", *flags), lf.load(runs / "classes")
    expected = model.draw_labels(9, seed=5).tolist() if asked is None else [asked] * 9
    assert found["labels"].tolist() == expected
    np.testing.assert_array_equal(found["images"], to_uint8(model.sample(9, label=asked, seed=5)))


@pytest.mark.parametrize(
    ("run", "label", "asked"),
    [("numbers", "1", 0), ("numbers", "2", 1), ("numbers", "7", 2), ("words", "dog", 1), ("words", "2", 2)],
)
def test_sample_command_finds_classes_by_name(runs, run, label, asked):
    """Where names are numbers, a number is a name and no place in their list."""
    assert sampled(runs / run, "--label", label)["labels"].tolist() == [asked] * 9


def test_sample_command_with_descriptors(runs):
    found, model = sampled(runs / "two", "--label", "4.5,6"), lf.load(runs / "two")
    assert found["labels"].tolist() == [[4.5, 6.0]] * 9
    np.testing.assert_array_equal(found["images"], to_uint8(model.sample(9, label=[4.5, 6.0], seed=5)))
    assert np.isnan(sampled(runs / "two", "--label", "none")["labels"]).all()
    known = {tuple(r) for r in described().train.labels.tolist()}
    assert {tuple(r) for r in sampled(runs / "two")["labels"].tolist()} <= known


@pytest.mark.parametrize("typed", ["4.5", "4"])
def test_sample_command_with_a_single_descriptor(runs, typed):
    assert sampled(runs / "one", "--label", typed)["labels"].tolist() == [[float(typed)]] * 9


def test_sample_command_of_other_models(runs):
    assert sampled(runs / "vae").files == ["images"]


@pytest.mark.parametrize(
    ("run", "label", "part"),
    [
        ("classes", "7", "no class '7'; choose from 0, 1, 2."), ("classes", "1.5", "no class '1.5'"),
        ("classes", "wide", "no class 'wide'"), ("classes", "", "no class ''"), ("two", "4.5", "2 numbers"),
        ("two", "1,2,3", "2 numbers"), ("two", "1,x", "--label 1,x"), ("vae", "1", "not conditioned on labels"),
        ("vae", "wide", "not conditioned on labels"), ("numbers", "0", "no class '0'; choose from 1, 2, 7."),
    ],
)  # fmt: skip
def test_sample_command_refuses(runs, capsys, run, label, part):
    out = runs / "refused.npz"
    assert main(["sample", str(runs / run), "-n", "9", f"--label={label}", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1
    assert not out.exists()
