"""The GANs one by one: every loss of a duel, unrolled, Wasserstein, R3GAN and BEGAN, against float64 and by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import latentforge as lf
from conftest import tiny_data
from latentforge.optim import make_optimizer
from latentforge.train import Trainer
from playing import (
    CRITIC,
    GENERATOR,
    assert_same,
    build,
    clock,
    d,
    feed,
    gradients,
    images,
    slope_norms,
    step,
    taken,
)

B, Z = 6, 3
DENSE = {"hidden": (8,), "critic_hidden": (10, 7), "latent_dim": Z}
MLP = DENSE | {"net": "mlp"}


def twin_of(model):
    return copy.deepcopy(model).double()


def uniform(t) -> Tensor:
    return (t.rand(B, Z) * 2 - 1).double()


def normal(t) -> Tensor:
    return t.randn(B, Z).double()


def weights(*modules) -> list[Tensor]:
    return [v.clone() for m in modules for v in m.state_dict().values()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# -- every loss, in the ordinary round -------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", CRITIC)
def test_a_round_of_every_loss(kind):
    """The critic on x and G(z), then the generator on the same G(z) under the critic that has stepped."""
    model = build("gan", **DENSE, loss=kind)
    twin, t = twin_of(model), clock()
    x = images(B).double() * 2 - 1
    play = model.play(feed(images(B)), clock())
    critic, generator = list(twin.critic.parameters()), list(twin.generator.parameters())

    fake = torch.tanh(twin.generator(uniform(t)))
    cost = CRITIC[kind](twin.critic(x), twin.critic(fake.detach()))
    expected = gradients({"critic": cost}, {"critic": critic})
    assert_same(taken(model, next(play)), expected)
    step(model, twin, expected)

    cost = GENERATOR[kind](twin.critic(x), twin.critic(fake))
    assert_same(taken(model, next(play)), gradients({"generator": cost}, {"generator": generator}))
    assert next(play, None) is None


# -- unrolled --------------------------------------------------------------------------------------------------------
def test_unrolled_by_nothing_is_the_gan_bit_for_bit():
    def trained(name: str, **options):
        return lf.fit(name, tiny_data((1, 6, 6)), examples=80, batch_size=8, quiet=True, model_options=DENSE | options)

    plain, unrolled, ahead = trained("gan"), trained("unrolled-gan", unroll=0), trained("unrolled-gan", unroll=1)
    assert equal(weights(plain), weights(unrolled))
    assert not equal(weights(plain.generator), weights(ahead.generator))


def look_ahead(model, x: Tensor, z: Tensor, kind: str, unroll: int, rate: float) -> Tensor:
    """The generator's loss under a copy of the critic that has taken real steps of SGD."""
    critic, fake = copy.deepcopy(model.critic), torch.tanh(model.generator(z))
    optimizer = torch.optim.SGD(critic.parameters(), lr=rate)
    for _ in range(unroll):
        optimizer.zero_grad()
        CRITIC[kind](critic(x), critic(fake.detach())).backward()
        optimizer.step()
    return GENERATOR[kind](critic(x), critic(fake)).detach()


@pytest.mark.parametrize("kind", ["nonsaturating", "least-squares", "relativistic"])
@pytest.mark.parametrize("unroll", [0, 1, 4])
def test_the_gradient_runs_through_the_steps_ahead(kind, unroll):
    """Against finite differences of the generator's loss through that many explicit critic steps, along the gradient and
    other directions; without the steps it would be another."""
    rate = 0.3
    model = build("unrolled-gan", **DENSE, loss=kind, unroll=unroll, unroll_rate=rate).double()
    x, z = images(B).double() * 2 - 1, uniform(clock())
    own = list(model.generator.parameters())

    def slopes(steps: int) -> list[Tensor]:
        model.unroll = steps
        cost = model.generator_cost((x,), (model.generate(z),), clock())
        assert cost.item() == pytest.approx(look_ahead(model, x, z, kind, steps, rate).item(), rel=1e-5)
        return list(torch.autograd.grad(cost, own))

    found, blind = slopes(unroll), slopes(0)
    torch.manual_seed(1)
    for along in (found, *[[torch.randn_like(p) for p in own] for _ in range(3)]):
        size = sum(float((a**2).sum()) for a in along) ** 0.5
        ends = []
        for way in (1, -1):
            with torch.no_grad():
                for p, a in zip(own, along, strict=True):
                    p.add_(way * 1e-6 / size * a)
            ends.append(float(look_ahead(model, x, z, kind, unroll, rate)))
            with torch.no_grad():
                for p, a in zip(own, along, strict=True):
                    p.sub_(way * 1e-6 / size * a)
        difference = (ends[0] - ends[1]) / 2e-6
        slope = sum(float((g * a).sum()) for g, a in zip(found, along, strict=True)) / size
        assert slope == pytest.approx(difference, rel=1e-4, abs=1e-5)
    if unroll:
        far = sum(float((a - b).square().sum()) for a, b in zip(found, blind, strict=True))
        assert far > 1e-3 * sum(float(a.square().sum()) for a in found)


def test_the_critic_takes_its_one_step_alone():
    """After a round the critic is where the GAN's critic is, bit for bit; the generator is not."""
    after = {}
    for name, options in (("gan", {}), ("unrolled-gan", {"unroll": 3})):
        trainer = Trainer(build(name, **DENSE, **options), tiny_data((1, 6, 6)), examples=8, batch_size=8, quiet=True)
        trainer.round()
        after[name] = trainer.model
    assert equal(weights(after["gan"].critic), weights(after["unrolled-gan"].critic))
    assert not equal(weights(after["gan"].generator), weights(after["unrolled-gan"].generator))


# -- Wasserstein -----------------------------------------------------------------------------------------------------
def test_weights_are_clamped_before_each_of_the_critics_losses():
    """However far a step has taken them; what the generator faces has stepped since."""
    model = build("wgan", **MLP, clip_weights=0.02, boosted_rounds=0, critic_steps=3)
    largest: list[float] = []
    judge = model.verdict

    def watched(*what, y=None):
        largest.append(max(float(p.detach().abs().max()) for p in model.critic.parameters()))
        return judge(*what, y=y)

    model.verdict = watched
    moves = []
    for move in model.play(feed(*[images(B, seed=i) for i in range(3)]), clock(round_=1)):
        moves.append(list(move))
        with torch.no_grad():  # a step
            for p in model.critic.parameters():
                p.add_(torch.randn_like(p))
    assert moves == [["critic"]] * 3 + [["generator"]]
    assert all(0.019 < v <= 0.02 + 1e-9 for v in largest[:6])
    assert largest[6] > 0.1


def test_clamping_leaves_weights_within_alone():
    model = build("wgan", **MLP, clip_weights=0.02)
    before = weights(model.critic)
    model.clamp()
    assert not equal(before, weights(model.critic))
    for old, new in zip(before, weights(model.critic), strict=True):
        torch.testing.assert_close(new, torch.minimum(torch.maximum(old, torch.tensor(-0.02)), torch.tensor(0.02)))
    free = build("wgan", **MLP, clip_weights=0.0)
    before = weights(free.critic)
    free.clamp()
    assert equal(before, weights(free.critic))


def test_schedule_of_the_paper():
    """100 critic steps in the first 25 rounds and in every 500th, else 5."""
    model = build("wgan", **MLP)
    expected = {0: 100, 1: 100, 24: 100, 25: 5, 26: 5, 499: 5, 500: 100, 501: 5, 999: 5, 1000: 100}
    assert {r: model.critic_steps_at(r) for r in expected} == expected
    assert sum(model.critic_steps_at(r) for r in range(1000)) == 26 * 100 + 974 * 5
    assert {model.clip_weights, model.loss} == {0.005, "wasserstein"}


@pytest.mark.parametrize(
    ("rounds", "steps"),
    [(0, {0: 2, 1: 2, 500: 2}), (2, {0: 4, 1: 4, 2: 2, 499: 2, 500: 4})],
    ids=["never", "first two"],
)
def test_the_round_follows_the_schedule_and_every_step_sees_fresh_images(rounds, steps):
    model = build("wgan", **MLP, boosted_rounds=rounds, boosted_steps=4, critic_steps=2)
    for round_, count in steps.items():
        batches = [images(B, seed=i) for i in range(count)]
        seen = []
        cost = model.critic_cost
        model.critic_cost = lambda real, *rest, cost=cost, seen=seen: (seen.append(real[0]), cost(real, *rest))[1]
        moves = [next(iter(m)) for m in model.play(feed(*batches), clock(round_))]
        del model.critic_cost
        assert moves == ["critic"] * count + ["generator"]
        assert all(torch.equal(a, 2 * b - 1) for a, b in zip(seen, batches, strict=True))


@pytest.mark.parametrize(
    ("name", "optimizer", "rate", "betas"),
    [("wgan", torch.optim.RMSprop, 3e-4, None), ("wgan-gp", torch.optim.Adam, 3e-4, (0.0, 0.9)),
     ("r3gan", torch.optim.Adam, 4e-4, (0.0, 0.99)), ("began", torch.optim.Adam, 5e-4, (0.5, 0.999))],
)  # fmt: skip
def test_seats(name, optimizer, rate, betas):
    model = build(name, hidden=(8,), latent_dim=Z, net="mlp")
    for player, seat in model.seats().items():
        made = make_optimizer(seat, list(model.parameters()))
        assert type(made) is optimizer
        assert made.param_groups[0]["lr"] == (1e-3 if (name, player) == ("wgan", "generator") else rate)
        assert betas is None or tuple(made.param_groups[0]["betas"]) == betas


def test_wgan_gp():
    """The critic descends E f(G(z)) - E f(x) + 10 (||grad f|| - 1)^2; `estimate` is the first two turned round."""
    model = build("wgan-gp", **MLP, critic_steps=1)
    twin, t, mine = twin_of(model), clock(), clock()
    x = images(B).double() * 2 - 1
    play = model.play(feed(images(B)), mine)
    critic, generator = list(twin.critic.parameters()), list(twin.generator.parameters())

    fake, share = twin.generator(normal(t)), t.rand(B, 1).double()[:, :, None, None]
    distance = twin.critic(x).mean() - twin.critic(fake.detach()).mean()
    penalty = 10 * ((slope_norms(twin.critic, share * x + (1 - share) * fake.detach()) - 1) ** 2).mean()
    expected = gradients({"critic": penalty - distance}, {"critic": critic})
    assert_same(taken(model, next(play)), expected)
    assert mine.logged["estimate"].item() == pytest.approx(distance.item(), rel=1e-4)
    assert mine.logged["penalty"].item() == pytest.approx(penalty.item(), rel=1e-4)
    step(model, twin, expected, rate=0.01)

    cost = -twin.critic(fake).mean()
    assert_same(taken(model, next(play)), gradients({"generator": cost}, {"generator": generator}))


@pytest.mark.parametrize(("name", "logged"), [("wgan", True), ("wgan-gp", True), ("gan", False), ("r3gan", False)])
def test_estimate_is_logged_where_it_is_one(name, logged):
    options = {"boosted_rounds": 0} if name == "wgan" else {}
    model = build(name, **(DENSE if name == "gan" else MLP), critic_steps=1, **options)
    t = clock()
    list(model.play(feed(images(B)), t))
    assert ("estimate" in t.logged) == logged


# -- R3GAN -----------------------------------------------------------------------------------------------------------
def test_r3gan():
    """Pairs for both players, R1 at real and R2 at generated images in the critic's loss."""
    model = build("r3gan", **MLP, r1=0.6, r2=1.7, penalty_every=1)
    assert (lf.create("r3gan", image_shape=(1, 6, 6)).r1, lf.create("r3gan", image_shape=(1, 6, 6)).r2) == (0.1, 0.1)
    twin, t, mine = twin_of(model), clock(), clock()
    x = images(B).double() * 2 - 1
    play = model.play(feed(images(B)), mine)
    critic, generator = list(twin.critic.parameters()), list(twin.generator.parameters())

    fake = twin.generator(normal(t))
    pairs = -d(twin.critic(x) - twin.critic(fake.detach())).log().mean()
    r1, r2 = (0.5 * (slope_norms(twin.critic, v) ** 2).mean() for v in (x, fake.detach()))
    expected = gradients({"critic": pairs + 0.6 * r1 + 1.7 * r2}, {"critic": critic})
    assert_same(taken(model, next(play)), expected)
    assert mine.logged["penalty"].item() == pytest.approx((0.6 * r1 + 1.7 * r2).item(), rel=1e-4)
    step(model, twin, expected)

    cost = -d(twin.critic(fake) - twin.critic(x)).log().mean()
    assert_same(taken(model, next(play)), gradients({"generator": cost}, {"generator": generator}))


# -- BEGAN -----------------------------------------------------------------------------------------------------------
def error(twin, v: Tensor) -> Tensor:
    """L(v), the critic's mean absolute error of rebuilding it, mean over the batch."""
    return sum((v[i] - twin.critic(v[i : i + 1])[0]).abs().sum() / v[i].numel() for i in range(len(v))) / len(v)


@pytest.mark.parametrize(("k", "gamma"), [(0.0, 0.5), (0.3, 0.7), (1.0, 0.2)])
def test_began(k, gamma):
    model = build("began", hidden=(8,), latent_dim=Z, net="mlp", gamma=gamma)
    model.k.fill_(k)
    twin, t, mine = twin_of(model), clock(), clock()
    (move,) = model.play(feed(images(B)), mine)
    x, fake = images(B).double() * 2 - 1, torch.tanh(twin.generator(uniform(t)))
    real, made = error(twin, x), error(twin, fake)
    expected = gradients(
        {"critic": real - k * error(twin, fake.detach()), "generator": made},
        {"critic": list(twin.critic.parameters()), "generator": list(twin.generator.parameters())},
    )
    assert_same(taken(model, move), expected)
    m = (real + (gamma * real - made).abs()).item()
    for name, value in (("error_real", real.item()), ("error_fake", made.item()), ("k", k), ("convergence", m)):
        assert mine.logged[name].item() == pytest.approx(value, rel=1e-4)


def test_the_balance_follows_its_formula_within_its_bounds():
    model = build("began", hidden=(8,), latent_dim=Z, net="mlp", gamma=0.6, proportional_gain=0.4)
    t, k = clock(), 0.0
    visited = set()
    for real, fake in [(1.0, 0.2), (2.0, 0.1), (3.0, 0.1), (0.5, 0.9), (0.1, 2.0), (0.1, 2.0), (1.0, 0.5)]:
        t.means = {"error_real": torch.tensor(real), "error_fake": torch.tensor(fake)}
        model.settle(t)
        k = min(max(k + 0.4 * (0.6 * real - fake), 0.0), 1.0)
        visited.add(k)
        assert model.k.item() == pytest.approx(k, abs=1e-6)
    assert {0.0, 1.0} < visited
    t.means = {"error_real": torch.tensor(float("nan")), "error_fake": torch.tensor(1.0)}
    model.settle(t)
    assert model.k.item() == pytest.approx(k, abs=1e-6)


def test_the_balance_in_training():
    """k of each round is what the errors logged before it make it; it is saved with the weights."""
    model = build("began", hidden=(8,), latent_dim=Z, net="mlp", proportional_gain=0.2, gamma=0.9)
    trainer, k, moved = Trainer(model, tiny_data((1, 6, 6)), examples=400, batch_size=8, quiet=True), 0.0, False
    for _ in range(12):
        trainer.round()
        seen = trainer.clocks[0].means
        assert seen["k"].item() == pytest.approx(k, abs=1e-6)
        k = min(max(k + 0.2 * (0.9 * seen["error_real"].item() - seen["error_fake"].item()), 0.0), 1.0)
        assert model.k.item() == pytest.approx(k, abs=1e-6)
        moved |= k > 0.01
    assert moved
    assert torch.equal(trainer.average.k, model.k)
    assert "k" in model.state_dict()


def test_a_ratio_above_1_is_refused():
    with pytest.raises(ValueError, match="0 to 1"):
        lf.create("began", image_shape=(1, 6, 6), gamma=1.2)
