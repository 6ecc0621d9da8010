"""What changes a duel beside its loss: minibatch discrimination, DiffAugment, instance noise, label noise, spectral norm
and dropout in the generator."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import latentforge as lf
from conftest import tiny_data
from latentforge.nets.dropout import Dropout
from latentforge.parts.augment import augment, color, cutout, translation
from latentforge.parts.minibatch import MinibatchDiscrimination
from latentforge.train import Trainer
from playing import CRITIC, build, clock, d, feed, images

SMALL = {"hidden": (8,), "critic_hidden": (10, 7), "latent_dim": 3}


# -- minibatch discrimination ----------------------------------------------------------------------------------------
def layer(features: int = 5, kernels: int = 3, size: int = 4) -> MinibatchDiscrimination:
    torch.manual_seed(0)
    out = MinibatchDiscrimination(features, kernels, size)
    with torch.no_grad():
        out.bias.copy_(torch.randn(kernels))
    return out


def test_minibatch_formula():
    """o_b(i) = sum over j != i of exp(-||M_ib - M_jb||_1), in loops."""
    m, f = layer(), torch.randn(6, 5)
    t, x = m.project.weight.detach().double().T.reshape(5, 3, 4), f.double()  # T (F, kernels, size)
    expected = torch.zeros(6, 3, dtype=torch.float64)
    for i in range(6):
        for b in range(3):
            rows = [sum(x[k, a] * t[a, b] for a in range(5)) for k in range(6)]
            for j in range(6):
                if j != i:
                    expected[i, b] += math.exp(-float((rows[i] - rows[j]).abs().sum()))
    assert expected.max() > 0.01
    out = m(f)
    assert torch.equal(out[:, :5], f)
    torch.testing.assert_close(out[:, 5:].double(), expected + m.bias.double(), rtol=1e-4, atol=1e-5)


def test_minibatch_of_one_sees_nobody():
    """The example itself is left out."""
    m, f = layer(), torch.randn(1, 5)
    torch.testing.assert_close(m(f)[0, 5:], m.bias)


def test_minibatch_follows_a_permutation():
    m, f, order = layer(), torch.randn(7, 5), torch.randperm(7)
    torch.testing.assert_close(m(f)[order], m(f[order]))


@pytest.mark.parametrize("b", [2, 5])
def test_minibatch_of_identical_examples(b):
    m = layer()
    torch.testing.assert_close(m(torch.randn(1, 5).expand(b, 5))[:, 5:], (b - 1 + m.bias).expand(b, 3))


def test_minibatch_reaches_projection_and_bias():
    m = layer()
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(m(torch.randn(6, 5)).sum(), m.parameters()))


def test_a_critic_with_minibatch_sees_the_batch_and_keeps_real_and_generated_apart():
    for kernels in (0, 4):
        model = build("larsen-vae-gan", net="mlp", hidden=(8,), latent_dim=3, minibatch=kernels)
        x, same = images(5), images(1).expand(5, 1, 6, 6)
        alone = torch.cat([model.critic(v[None]) for v in x])
        assert torch.allclose(model.critic(x), alone, atol=1e-5) == (kernels == 0)
        assert model.batch_coupled == (kernels > 0)
        verdicts, features = model.look((x, same), None)
        for found, feature, v in zip(verdicts, features, (x, same), strict=True):
            torch.testing.assert_close(found, model.critic(v))
            torch.testing.assert_close(feature, model.critic.features(v)[1])


# -- DiffAugment -----------------------------------------------------------------------------------------------------
POLICIES = {
    "color": [color], "translation": [translation], "cutout": [cutout], "color-translation": [color, translation],
    "translation-cutout": [translation, cutout], "all": [color, translation, cutout],
}  # fmt: skip
SIZES = [(1, 8, 8), (3, 7, 13), (4, 3, 17), (1, 5, 5)]


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_are_what_they_are_called(policy):
    x, t, expected = images(4, (3, 9, 11)), clock(), images(4, (3, 9, 11))
    for change in POLICIES[policy]:
        expected = change(expected, t)
    assert torch.equal(augment(x, policy, clock()), expected)
    assert torch.equal(augment(x, "none", clock()), x)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("policy", POLICIES)
def test_one_clock_one_change_and_each_image_its_own(policy, shape):
    x = images(1, shape).expand(40, *shape)
    a = augment(x, policy, clock())
    assert a.shape == x.shape
    assert torch.equal(a, augment(x, policy, clock()))
    different = len({tuple(v.flatten().tolist()) for v in a})
    assert different > (4 if policy == "translation" else 10)
    assert not torch.equal(a, augment(x, policy, clock(round_=4)))


@pytest.mark.parametrize("shape", [(1, 5, 9), (3, 4, 4)], ids=str)
@pytest.mark.parametrize("policy", POLICIES)
def test_augment_is_differentiable(policy, shape):
    x = images(2, shape).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: augment(v, policy, clock()), x)


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_color(shape):
    """Image by image: brightness added, each pixel's distance from its grey scaled, then each from the image's mean."""
    x = images(5, shape)
    draws, found = clock().rand(5, 3).double(), color(x, clock()).double()
    for i, v in enumerate(x.double()):
        bright, saturate, contrast = draws[i] - torch.tensor([0.5, 0.0, 0.0]).double()
        v = v + bright
        for r in range(shape[1]):
            for c in range(shape[2]):
                grey = v[:, r, c].sum() / shape[0]
                v[:, r, c] = grey + (v[:, r, c] - grey) * 2 * saturate
        mean = v.sum() / v.numel()
        torch.testing.assert_close(found[i], mean + (v - mean) * (0.5 + contrast), rtol=1e-5, atol=1e-5)


def test_color_reaches_its_bounds_and_no_further():
    """Over many images: brightness within +-.5, contrast within [.5, 1.5], both spread over all of it."""
    x = images(1, (1, 4, 4)).expand(4000, 1, 4, 4)
    found = color(x, clock())
    bright = (found - x).mean((1, 2, 3))
    contrast = found.std((1, 2, 3)) / x.std((1, 2, 3))
    for value, low, high in ((bright, -0.5, 0.5), (contrast, 0.5, 1.5)):
        assert low - 1e-5 < value.min() < low + 0.01
        assert high - 0.01 < value.max() < high + 1e-5


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_translation_by_whole_pixels_within_an_eighth(shape):
    """Every image is a shift of itself, edges repeated, and every shift within reach comes up equally often."""
    _, h, w = shape
    reach = (round(h / 8), round(w / 8))
    n = 3000
    x = images(1, shape).expand(n, *shape)
    found = translation(x, clock())
    count = 0
    for dy in range(-reach[0], reach[0] + 1):
        for dx in range(-reach[1], reach[1] + 1):
            shifted = torch.empty(shape)
            for r in range(h):
                for k in range(w):
                    shifted[:, r, k] = x[0, :, min(max(r - dy, 0), h - 1), min(max(k - dx, 0), w - 1)]
            hits = int((found == shifted).flatten(1).all(1).sum())
            share = 1 / ((2 * reach[0] + 1) * (2 * reach[1] + 1))
            assert abs(hits - n * share) < 5 * math.sqrt(n * share * (1 - share)) + 1e-9
            count += hits
    assert count == n


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_cutout_is_one_rectangle_of_half_each_side(shape):
    """Zeros in a block of rows and columns, half of each side where it is not cut by the border; the rest untouched."""
    _, h, w = shape
    x = images(1, shape).expand(300, *shape) + 0.5  # no pixel is 0
    whole = 0
    for before, after in zip(x, cutout(x, clock()), strict=True):
        gone = after == 0
        assert torch.equal(after[~gone], before[~gone])
        assert torch.equal(gone, gone[:1].expand_as(gone))  # all channels alike
        rows, columns = gone[0].any(1).nonzero()[:, 0], gone[0].any(0).nonzero()[:, 0]
        assert int(gone[0].sum()) == len(rows) * len(columns)
        inside = True
        for found, side in ((rows, h), (columns, w)):
            assert len(found) == int(found[-1] - found[0]) + 1
            assert len(found) <= math.ceil(side / 2)
            at_border = int(found[0]) == 0 or int(found[-1]) == side - 1
            inside &= not at_border
            assert at_border or len(found) >= side // 2
        whole += inside
    assert whole > 5


# -- what the critic is shown ----------------------------------------------------------------------------------------
def shown(model, call) -> list[tuple[Tensor, ...]]:
    """What `call` shows the critic, in order."""
    seen: list[tuple[Tensor, ...]] = []
    judge = model.verdict
    model.verdict = lambda *what, y=None: (seen.append(what), judge(*what, y=y))[1]
    call()
    del model.verdict
    return seen


@pytest.mark.parametrize("policy", ["translation", "all"])
def test_real_and_generated_images_are_augmented_alike(policy):
    """Both by the policy, each with draws of its own, for the critic and for the generator."""
    model = build("gan", **SMALL, augment=policy, loss="relativistic")
    real, fake = images(6, seed=1), images(6, seed=2)
    for cost in (model.critic_cost, model.generator_cost):
        seen = shown(model, lambda cost=cost: cost((real,), (fake,), clock()))
        t = clock()
        assert len(seen) == 2
        for (found,), x in zip(seen, (real, fake), strict=True):
            assert torch.equal(found, augment(x, policy, t))
            assert not torch.equal(found, x)


@pytest.mark.parametrize("policy", POLICIES)
def test_images_in_0_to_1_are_changed_as_those_in_minus_1_to_1(policy):
    """Grey stays in the middle of the networks' range: .5 where that is [0, 1]."""
    model, x = build("larsen-vae-gan", net="mlp", hidden=(8,), latent_dim=3, augment=policy), images(20, (1, 6, 6))
    (found,) = model.disguise((x,), clock())
    torch.testing.assert_close(found, (augment(2 * x - 1, policy, clock()) + 1) / 2)
    (grey,) = model.disguise((torch.full((20, 1, 6, 6), 0.2),), clock())
    if policy == "cutout":
        assert {round(v, 5) for v in grey.flatten().tolist()} == {0.2, 0.5}


def test_codes_beside_images_are_not_augmented():
    model = build("bigan", net="mlp", **SMALL, augment="all")
    x, z = images(6), torch.randn(6, 3)
    image, code = model.disguise((x, z), clock())
    assert torch.equal(image, augment(x, "all", clock()))
    assert torch.equal(code, z)


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.9, 1.0])
def test_instance_noise_falls_with_the_budget(progress):
    model = build("bigan", net="mlp", **SMALL, instance_noise=0.4)
    x, z = torch.zeros(400, 1, 6, 6), torch.zeros(400, 30)
    image, code = model.disguise((x, z), clock(progress=progress))
    for v in (image, code):
        assert float(v.std()) == pytest.approx(0.4 * (1 - progress), rel=0.03, abs=1e-9)
        assert abs(float(v.mean())) <= 0.02
    if progress < 1:
        again = shown(model, lambda: model.critic_cost((x, z[:, :3]), (x, z[:, :3]), clock()))
        assert not torch.equal(again[0][0], again[1][0])  # real and generated have noise of their own


# -- label noise -----------------------------------------------------------------------------------------------------
FLIP = {
    "nonsaturating": lambda v: (-d(v).log(), -(1 - d(v)).log()),
    "least-squares": lambda v: ((v - 1) ** 2, v**2),
    "hinge": lambda v: ((1 - v).clamp(min=0), (1 + v).clamp(min=0)),
    "wasserstein": lambda v: (-v, v),
}


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("kind", FLIP)
def test_label_noise(kind, share):
    """Each example costs what its kind costs, or, in the share asked for, what the other kind would."""
    n = 20_000
    model = build("gan", **SMALL, loss=kind, label_noise=share)
    real, fake = 0.3 + torch.rand(n) * 0.4, -1.3 - torch.rand(n) * 0.4  # both formulas differ at all of them
    turned = []
    for verdict, cost, own in zip((real, fake), model.costs(real, fake, clock()), (0, 1), strict=True):
        both = [f.float() for f in FLIP[kind](verdict.double())]
        right, wrong = (torch.isclose(cost, both[k], rtol=1e-4, atol=1e-5) for k in (own, 1 - own))
        assert (right ^ wrong).all()
        turned.append(wrong)
        assert abs(int(wrong.sum()) - n * share) <= 5 * math.sqrt(n * share * (1 - share))
    both_turned = int((turned[0] & turned[1]).sum())  # independent of one another
    assert abs(both_turned - n * share**2) <= 5 * math.sqrt(n * share**2 * (1 - share**2))


def test_label_noise_under_smoothing_has_the_smoothed_target():
    """What is told to be real has the target of what is real."""
    model = build("gan", **SMALL, label_noise=0.5, smoothing=0.2)
    real, fake = torch.full((4000,), 2.0), torch.full((4000,), 2.0)
    costs = model.costs(real, fake, clock())
    low, high = (float(F.softplus(torch.tensor(x))) for x in (-2.0, 2.0))  # -log of D and of 1 - D
    for cost in costs:
        assert sorted({round(float(c), 4) for c in cost}) == [round(0.8 * low + 0.2 * high, 4), round(high, 4)]


def test_label_noise_turns_relativistic_pairs():
    n = 20_000
    model = build("gan", **SMALL, loss="relativistic", label_noise=0.2)
    real, fake = torch.rand(n) + 0.5, -torch.rand(n)
    total = sum(model.costs(real, fake, clock()))
    right, wrong = ((1 + (s * (fake - real).double()).exp()).log().float() for s in (1, -1))
    turned = torch.isclose(total, wrong, rtol=1e-4)
    assert torch.allclose(total[~turned], right[~turned], rtol=1e-4)
    assert abs(int(turned.sum()) - n * 0.2) < 5 * math.sqrt(n * 0.16)


def test_label_noise_takes_the_same_side_for_all_kinds_of_fakes():
    model = build("larsen-vae-gan", net="mlp", hidden=(8,), latent_dim=3, label_noise=0.4)
    verdict = -1.3 - torch.rand(500)
    cost = model.costs(verdict + 2, torch.stack([verdict, verdict]), clock())[1]
    torch.testing.assert_close(cost[0], cost[1])
    assert 100 < int((cost[0] > 1).sum()) < 300  # -log D of what the critic holds for fake


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        ({"label_noise": 0.6}, "opposite"),
        ({"loss": "hinge", "smoothing": 0.1}, "hinge"),
        ({"loss": "relativistic", "smoothing": 0.1}, "relativistic"),
        ({"loss": "wasserstein", "smoothing": 0.1}, "wasserstein"),
    ],
)
def test_rules_without_meaning_are_refused(rules, word):
    with pytest.raises(ValueError, match=word):
        lf.create("gan", image_shape=(1, 6, 6), **SMALL, **rules)


def test_smoothing_reaches_the_critics_cost():
    real, fake = images(6, seed=1), images(6, seed=2)
    for kind, expected in (
        ("nonsaturating", lambda r, f: -(0.8 * d(r).log() + 0.2 * (1 - d(r)).log()).mean() - (1 - d(f)).log().mean()),
        ("least-squares", lambda r, f: ((r - 0.8) ** 2).mean() + (f**2).mean()),
    ):
        model = build("gan", **SMALL, loss=kind, smoothing=0.2)
        found = model.critic_cost((real,), (fake,), clock()).item()
        r, f = model.critic(real).double(), model.critic(fake).double()
        assert found == pytest.approx(expected(r, f).item(), rel=1e-5)
        assert found != pytest.approx(CRITIC[kind](r, f).item(), rel=1e-3)


# -- spectral norm ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "options"),
    [("gan", SMALL), ("dcgan", {"width": 4, "latent_dim": 3}), ("gan", SMALL | {"minibatch": 2})],
    ids=["dense", "conv", "minibatch"],
)
def test_spectral_norm(name, options):
    """The largest singular value of every layer's weights, a matrix of outputs by inputs, comes to 1."""
    for on in (True, False):
        model = build(name, (1, 12, 12), grown=3.0, **options, spectral_norm=on)
        x = images(6, (1, 12, 12))
        for _ in range(60):
            model.critic(x)
        layers = [m for m in model.critic.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        assert len(layers) >= 2
        norms = [float(torch.linalg.matrix_norm(m.weight.detach().flatten(1), 2)) for m in layers]
        assert on == all(abs(s - 1) < 0.02 for s in norms), norms
    assert all(not nn.utils.parametrize.is_parametrized(m) for m in model.generator.modules())


def test_spectral_norm_holds_while_training():
    model = build("gan", (1, 12, 12), **SMALL, spectral_norm=True)
    trainer = Trainer(model, tiny_data((1, 12, 12)), examples=400, batch_size=8, ema=0, quiet=True)
    for _ in range(40):
        trainer.round()
    for m in model.critic.modules():
        if isinstance(m, nn.Linear):
            assert float(torch.linalg.matrix_norm(m.weight.detach(), 2)) == pytest.approx(1, abs=0.05)


# -- dropout in the generator ----------------------------------------------------------------------------------------
def dropouts(model) -> list[Dropout]:
    return [m for m in model.generator.modules() if isinstance(m, Dropout)]


@pytest.mark.parametrize("name", ["gan", "dcgan", "wgan"])
def test_dropout_follows_every_hidden_activation(name):
    options = {"gan": {"hidden": (8, 9, 7)}, "dcgan": {"width": 4}, "wgan": {"net": "conv", "width": 4}}[name]
    model = build(name, (1, 12, 12), latent_dim=3, **options, generator_dropout=0.3)
    hidden = sum(isinstance(m, nn.ReLU) for s in model.generator.modules() if isinstance(s, nn.Sequential) for m in s)
    assert len(dropouts(model)) == hidden >= 1
    assert model.batch_coupled
    assert not dropouts(build(name, (1, 12, 12), latent_dim=3, **options))


def test_share_dropped_in_training():
    """Of the values that were not 0; those that stay are scaled by 1 / (1 - p)."""
    model = build("gan", hidden=(200, 100), critic_hidden=(8,), latent_dim=3, generator_dropout=0.3)
    gone = []

    def note(module: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        (x,) = given
        gone.append(float((out[x > 0] == 0).float().mean()))
        kept = (x > 0) & (out > 0)
        torch.testing.assert_close(out[kept], x[kept] * (256 / 179))  # .7 to the nearest 1/256

    for m in dropouts(model):
        m.register_forward_hook(note)
    torch.manual_seed(0)
    model.generate(torch.randn(200, 3))
    assert gone == pytest.approx([0.3, 0.3], abs=0.03)


def test_dropout_in_samples():
    """Off in samples unless asked for; asked for, every image has its own, and a seed repeats it."""

    def made(**rules):
        return build("gan", hidden=(20, 20), critic_hidden=(8,), latent_dim=3, **rules)

    off, still, on = made(), made(generator_dropout=0.4), made(generator_dropout=0.4, dropout_in_samples=True)
    assert torch.equal(off.sample(5, seed=3), still.sample(5, seed=3))
    assert not torch.allclose(off.sample(5, seed=3), on.sample(5, seed=3), atol=1e-3)
    state = torch.get_rng_state()
    assert torch.equal(on.sample(5, seed=3), on.sample(5, seed=3))
    assert not torch.equal(on.sample(5, seed=3), on.sample(5, seed=4))
    assert torch.equal(torch.get_rng_state(), state)
    codes = on.draw_codes(1, seed=0).expand(6, 3)
    assert len({tuple(v.flatten().tolist()) for v in on.decode(codes)}) == 6
    assert len({tuple(v.flatten().tolist()) for v in still.decode(codes)}) == 1


def test_dropout_is_on_in_the_round():
    """The critic meets, and the generator descends through, a generator with dropout."""
    model = build("gan", hidden=(20, 20), critic_hidden=(8,), latent_dim=3, generator_dropout=0.4)
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        losses.append([next(iter(m.values())).item() for m in model.play(feed(images()), clock())])
    assert all(a != b for a, b in zip(*losses, strict=True))
    assert len(losses[0]) == 2


@pytest.mark.parametrize("name", ["dcgan", "aae", "bigan"])
def test_a_critic_that_compares_is_asked_in_batches_of_the_size_it_was_trained_on(name):
    data = tiny_data((1, 16, 16))
    model = lf.create(name, image_shape=(1, 16, 16), minibatch=4, latent_dim=3)
    Trainer(model, data, examples=64, batch_size=16, accumulate=2, quiet=True)
    assert (model.batch_size, model.part_size) == (64, 8)  # the next training begins from the family's own
    sizes, verdict = [], model.verdict
    model.verdict = lambda *what, y=None: (sizes.append(len(what[0])), verdict(*what, y=y))[1]
    with torch.no_grad():
        model.evaluate(data.train[torch.arange(20)])
    assert sizes == [8, 8, 4] * 2


@pytest.mark.parametrize(("name", "options"), [("r3gan", {}), ("wgan-gp", {}), ("unrolled-gan", {"unroll": 1})])
def test_gradients_of_gradients_pass_no_compiled_critic(name, options):
    model = lf.create(name, image_shape=(1, 16, 16), **options)
    t = Trainer(model, tiny_data((1, 16, 16)), examples=64, batch_size=16, quiet=True)
    called, forward = [], model.critic.forward

    def compiled(*args):
        if torch.is_grad_enabled() and args[0].requires_grad and args[0].is_leaf:
            raise RuntimeError("a compiled network has no gradient of its gradient")
        called.append(1)
        return forward(*args)

    model.critic._compiled_call_impl = compiled
    t.round()
    expected = {"r3gan": 4, "wgan-gp": 11, "unrolled-gan": 2}  # both kinds per critic step, and what the generator asks
    assert len(called) == expected[name]
    assert model.critic._compiled_call_impl is compiled


def test_the_size_of_batches_is_saved_with_the_model(tmp_path):
    model = lf.create("dcgan", image_shape=(1, 16, 16), minibatch=4, latent_dim=3, width=4)
    lf.fit(model, tiny_data((1, 16, 16)), examples=64, batch_size=32, quiet=True)
    model.save_pretrained(str(tmp_path / "m"))
    assert lf.load(tmp_path / "m").part_size == 32
