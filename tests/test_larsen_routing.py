"""Who descends what in the VAE-GAN (Larsen et al. 2016, Algorithm 1; article 002), against a float64 reference that
shares nothing with `play` but the weights, the images and the noise."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

import latentforge as lf
from latentforge.clock import Clock
from latentforge.data.batch import Batch
from latentforge.game import own_parameters

SHAPE, B, Z = (1, 8, 8), 6, 3
NETS = {"mlp": {"net": "mlp", "hidden": (12,)}, "conv": {"net": "conv", "width": 4}}
# every option named, so that a change of defaults cannot empty a comparison
BASE = {
    "objective": "larsen", "fakes": "both", "loss": "nonsaturating", "beta": 1.0, "gamma": 0.5, "feature": 1.0,
    "pixel": 1.0, "weight": 10.0, "margin": 0.35,
}  # fmt: skip
SEED, ROUND = 11, 3
LN2 = math.log(2)
Gradients = dict[str, list[Tensor]]


def build(net: str = "mlp", **options):
    """A tiny VAE-GAN whose weights are large enough for every term to matter."""
    torch.manual_seed(0)
    model = lf.create("larsen-vae-gan", image_shape=SHAPE, latent_dim=Z, **NETS[net], **{**BASE, **options})
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    return model.train()


def images() -> Tensor:
    return torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(1))


def clock() -> Clock:
    t = Clock(SEED)
    t.round = ROUND
    t.start_round()
    return t


def start(model, t: Clock | None = None):
    """The model's round on the images, before its first move."""
    return model.play(iter([Batch(images(), None, torch.arange(B))]), t or clock())


def taken(model, move: dict[str, Tensor]) -> Gradients:
    """What the trainer takes: each loss's gradient over its own player's parameters."""
    own = own_parameters(model)
    out = {}
    for name, loss in move.items():
        found = torch.autograd.grad(loss, own[name], retain_graph=True, allow_unused=True)
        out[name] = [torch.zeros_like(p) if g is None else g for p, g in zip(own[name], found, strict=True)]
    return out


def assert_same(found: Gradients, expected: Gradients) -> None:
    """Equal up to float32, relative to the largest gradient of the player, and not all zero."""
    assert found.keys() == expected.keys()
    for name in expected:
        a, b = (torch.cat([g.double().flatten() for g in gs[name]]) for gs in (found, expected))
        assert b.abs().max() > 1e-6, f"{name}: nothing to compare"
        assert (a - b).abs().max() < 1e-4 * b.abs().max(), name


class Reference:
    """The terms of Algorithm 1 written out in float64, from copies of the networks and the same noise."""

    def __init__(self, model):
        twin = copy.deepcopy(model).double()
        self.encoder, self.decoder, self.critic = twin.encoder, twin.decoder, twin.critic
        self.parts = {k: list(getattr(self, k).parameters()) for k in ("encoder", "decoder", "critic")}
        self.x, self.t = images().double(), clock()

    def noise(self) -> Tensor:
        """The next draw of the round."""
        return self.t.randn(B, Z).double()

    def posterior(self) -> tuple[Tensor, Tensor]:
        h = self.encoder(self.x)
        return h[:, :Z], h[:, Z:]

    def kl(self) -> Tensor:
        """P with beta 1."""
        mean, log_variance = self.posterior()
        return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum() / B

    def rebuilt(self, noise: Tensor) -> Tensor:
        """x~."""
        mean, log_variance = self.posterior()
        return 1 / (1 + (-self.decoder(mean + (log_variance / 2).exp() * noise)).exp())

    def sampled(self, noise: Tensor) -> Tensor:
        """x_p."""
        return 1 / (1 + (-self.decoder(noise)).exp())

    def likeness(self, rebuilt: Tensor) -> Tensor:
        """R."""
        gap = self.critic.features(self.x)[1] - self.critic.features(rebuilt)[1]
        return 0.5 * (gap**2).sum() / B

    def pixels(self, rebuilt: Tensor) -> Tensor:
        return -(self.x * rebuilt.log() + (1 - self.x) * (1 - rebuilt).log()).sum() / B

    def d(self, x: Tensor) -> Tensor:
        """D(x), a probability (B,)."""
        return 1 / (1 + (-self.critic(x)).exp())

    def gradients(self, losses: dict[str, Tensor]) -> Gradients:
        return {
            k: list(torch.autograd.grad(loss, self.parts[k], retain_graph=True, materialize_grads=True))
            for k, loss in losses.items()
        }


def algorithm_1(model, fakes="both", loss="minimax", beta=1.0, gamma=1.0, feature=1.0, pixel=0.0) -> Gradients:
    """Encoder: P + R. Decoder: gamma R + A, or gamma R - log D of the fakes. Critic: -A. R may also compare pixels."""
    ref = Reference(model)
    rebuilt = ref.rebuilt(ref.noise())
    sampled = ref.sampled(ref.noise())
    shown = {"both": [rebuilt, sampled], "prior": [sampled], "reconstructions": [rebuilt]}[fakes]
    value = ref.d(ref.x).log().mean() + sum((1 - ref.d(f)).log().mean() for f in shown)  # A
    alike = feature * ref.likeness(rebuilt) + pixel * ref.pixels(rebuilt)
    against = value if loss == "minimax" else sum(-ref.d(f).log().mean() for f in shown)
    return ref.gradients({"encoder": beta * ref.kl() + alike, "decoder": gamma * alike + against, "critic": -value})


# -- Larsen et al., Algorithm 1 --------------------------------------------------------------------------------------
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("gamma", [1.0, 1e-2])
def test_algorithm_1_exactly(net, gamma):
    model = build(net, feature=1.0, pixel=0.0, loss="minimax", gamma=gamma)
    (move,) = start(model)
    assert set(move) == {"encoder", "decoder", "critic"}
    assert_same(taken(model, move), algorithm_1(model, gamma=gamma))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("fakes", ["both", "prior", "reconstructions"])
@pytest.mark.parametrize("adversarial", ["nonsaturating", "minimax"])
def test_every_form_of_larsen(net, fakes, adversarial):
    options = {"fakes": fakes, "loss": adversarial, "beta": 0.7, "gamma": 0.3, "feature": 0.6, "pixel": 0.2}
    model = build(net, **options)
    (move,) = start(model)
    assert_same(taken(model, move), algorithm_1(model, **options))


@pytest.mark.parametrize(
    ("player", "changes"),
    [
        ("encoder", {"beta": 3.0}), ("encoder", {"feature": 3.0}), ("encoder", {"pixel": 3.0}),
        ("decoder", {"gamma": 3.0}), ("decoder", {"feature": 3.0}), ("decoder", {"pixel": 3.0}),
        ("decoder", {"loss": "minimax"}), ("critic", {"fakes": "prior"}),
    ],
)  # fmt: skip
def test_each_option_reaches_the_player_it_is_for(player, changes):
    """So that the comparisons above cannot pass for want of influence."""
    before, after = (taken(m, next(start(m)))[player] for m in (build(), build(**changes)))
    assert any(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("player", "changes"),
    [
        ("encoder", {"gamma": 3.0}), ("encoder", {"loss": "minimax"}), ("encoder", {"fakes": "prior"}),
        ("decoder", {"beta": 3.0}), ("critic", {"beta": 3.0}), ("critic", {"gamma": 3.0}), ("critic", {"pixel": 3.0}),
        ("critic", {"feature": 3.0}), ("critic", {"loss": "minimax"}),
    ],
)  # fmt: skip
def test_and_no_other(player, changes):
    """The encoder receives nothing of A, the decoder nothing of P, the critic nothing of P and R."""
    before, after = (taken(m, next(start(m)))[player] for m in (build(), build(**changes)))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_numbers_that_are_logged():
    model, t = build(fakes="both"), clock()
    next(start(model, t))
    ref = Reference(model)
    rebuilt = ref.rebuilt(ref.noise())
    sampled = ref.sampled(ref.noise())
    expected: dict[str, Tensor] = {
        "kl_nats": ref.kl(),
        "likeness": ref.likeness(rebuilt),
        "critic_real": -ref.d(ref.x).log().mean(),
        "critic_fake": -torch.cat([(1 - ref.d(rebuilt)).log(), (1 - ref.d(sampled)).log()]).mean(),  # per image
    }
    for name, value in expected.items():
        assert t.logged[name].item() == pytest.approx(value.item(), rel=1e-4), name


# -- sitting out -----------------------------------------------------------------------------------------------------
LOW, EVEN, HIGH = LN2 - 0.36, LN2, LN2 + 0.36


@pytest.mark.parametrize(
    ("real", "fake", "out"),
    [
        (EVEN, EVEN, []),
        (LN2 - 0.34, LN2 - 0.34, []),
        (LN2 + 0.34, LN2 + 0.34, []),
        (LOW, EVEN, ["critic"]),
        (EVEN, LOW, ["critic"]),
        (LOW, LOW, ["critic"]),
        (HIGH, EVEN, ["decoder"]),
        (EVEN, HIGH, ["decoder"]),
        (HIGH, HIGH, ["decoder"]),
        (LOW, HIGH, []),  # both would be skipped: both play
        (HIGH, LOW, []),
    ],
)
def test_who_sits_out(real, fake, out):
    model, t = build(margin=0.35, fakes="prior"), clock()
    model.gate.running.copy_(torch.tensor([real, fake]))
    (move,) = start(model, t)
    assert set(move) == {"encoder", "decoder", "critic"} - set(out)
    for name in ("critic", "decoder"):
        assert t.logged[f"{name}_sits_out"] == (name in out)
    model.gate.running.fill_(LN2)  # who plays, plays as if nobody sat out
    everyone = taken(model, next(start(model)))
    assert_same(taken(model, move), {k: everyone[k] for k in move})


def test_margin_zero_never_sits_out():
    model = build(margin=0.0)
    for cost in ((0.0, 0.0), (9.0, 9.0)):
        model.gate.running.copy_(torch.tensor(cost))
        (move,) = start(model)
        assert set(move) == {"encoder", "decoder", "critic"}


@pytest.mark.parametrize(
    ("fakes", "even"),
    [("prior", [LN2, LN2]), ("reconstructions", [LN2, LN2]), ("both", [math.log(3), math.log(1.5)])],
)
def test_an_even_game_lets_everyone_play_and_is_where_a_model_begins(fakes, even):
    """Two kinds of fakes face each real image: the best critic of an even game says D = 1/3, not 1/2."""
    model = build(margin=0.35, fakes=fakes)
    torch.testing.assert_close(model.gate.running, torch.tensor(even))
    assert "gate.running" in model.state_dict()
    (move,) = start(model)
    assert set(move) == {"encoder", "decoder", "critic"}
    model.gate.running[0] -= 0.36
    (move,) = start(model)
    assert set(move) == {"encoder", "decoder"}


@pytest.mark.parametrize("objective", ["larsen", "sum", "in-turn"])
def test_settle_keeps_a_running_average(objective):
    """9/10 of the old and 1/10 of what was seen, real and fake apart; `play` itself leaves it alone."""
    model, t = build(objective=objective), clock()
    list(start(model, t))
    torch.testing.assert_close(model.gate.running, model.gate.even)
    model.gate.running.copy_(torch.tensor([0.5, 1.0]))
    expected = [0.5, 1.0]
    for real, fake in ((0.1, 2.0), (0.3, 0.0), (1.5, 0.7)):
        t.means = {"critic_real": torch.tensor(real), "critic_fake": torch.tensor(fake)}
        model.settle(t)
        expected = [0.9 * expected[0] + 0.1 * real, 0.9 * expected[1] + 0.1 * fake]
    torch.testing.assert_close(model.gate.running, torch.tensor(expected))
    assert {"critic_real", "critic_fake"} <= set(t.logged)


# -- article 002 -----------------------------------------------------------------------------------------------------
def critic_cost(ref: Reference, fake: Tensor) -> Tensor:
    return -(ref.d(ref.x).log().mean() + (1 - ref.d(fake)).log().mean())


def verdict(ref: Reference, fake: Tensor, adversarial: str) -> Tensor:
    return (1 - ref.d(fake)).log().mean() if adversarial == "minimax" else -ref.d(fake).log().mean()


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("adversarial", ["nonsaturating", "minimax"])
def test_sum(net, adversarial):
    """Encoder and decoder descend L_VAE + lambda L_GAN, the critic its own cost, in one move."""
    model = build(net, objective="sum", loss=adversarial, beta=0.7, weight=4.0)
    (move,) = start(model)
    ref = Reference(model)
    rebuilt = ref.rebuilt(ref.noise())
    fake = ref.sampled(ref.noise())
    loss = ref.pixels(rebuilt) + 0.7 * ref.kl() + 4.0 * verdict(ref, fake, adversarial)
    expected = ref.gradients({"encoder": loss, "decoder": loss, "critic": critic_cost(ref, fake)})
    assert_same(taken(model, move), expected)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("adversarial", ["nonsaturating", "minimax"])
def test_in_turn(net, adversarial):
    """Critic, generator, VAE: each move is computed with the weights the moves before it left."""
    model = build(net, objective="in-turn", loss=adversarial, beta=0.7, weight=4.0)
    ref, play = Reference(model), start(model)

    def check_and_step(losses: dict[str, Tensor]) -> None:
        move = next(play)
        found, expected = taken(model, move), ref.gradients(losses)
        assert_same(found, expected)
        with torch.no_grad():  # one long step of both, so that the next move sees other weights
            for name, grads in expected.items():
                for mine, theirs, g in zip(own_parameters(model)[name], ref.parts[name], grads, strict=True):
                    theirs.sub_(0.05 * g)
                    mine.copy_(theirs)

    check_and_step({"critic": critic_cost(ref, ref.sampled(ref.noise()).detach())})
    check_and_step({"decoder": 4.0 * verdict(ref, ref.sampled(ref.noise()), adversarial)})
    rebuilt = ref.rebuilt(ref.noise())
    loss = ref.pixels(rebuilt) + 0.7 * ref.kl()
    check_and_step({"encoder": loss, "decoder": loss})
    assert next(play, None) is None
