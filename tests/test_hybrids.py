"""Adversarial autoencoder, BiGAN and the joint VAE-GAN: who descends what, against float64, and the joint game's phases."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

import latentforge as lf
from conftest import tiny_data
from latentforge.averages import Averages
from latentforge.checkpoint import take_up
from latentforge.game import Seat
from latentforge.parts.phases import UNKNOWN
from latentforge.run import Run
from latentforge.train import Trainer
from playing import CRITIC, GENERATOR, assert_same, build, clock, d, feed, gradients, images, step, taken

B, Z = 6, 3
GAN, VAE = 0, 1  # phases
DENSE = {"net": "mlp", "hidden": (8,), "critic_hidden": (10, 7), "latent_dim": Z}


def parameters(*modules) -> list:
    return [p for m in modules for p in m.parameters()]


def gaussian_kl(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """KL between Gaussians with independent dimensions, mean over the batch."""
    terms = (variance + (mean - other_mean) ** 2) / other_variance - 1 + other_variance.log() - variance.log()
    return 0.5 * terms.sum(1).mean()


# -- adversarial autoencoder -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["nonsaturating", "least-squares"])
@pytest.mark.parametrize(("noise", "reconstruction"), [("normal", "bernoulli"), ("uniform", "squared")])
def test_aae(kind, noise, reconstruction):
    """Encoder and decoder by the reconstruction alone; the critic on codes of the prior (real) and of images (fake), with
    R1 at the real ones; the encoder, as its opponent, by its verdict alone."""
    model = build("aae", **DENSE, loss=kind, noise=noise, reconstruction=reconstruction)
    twin, t, x = copy.deepcopy(model).double(), clock(), images(B).double()
    play = model.play(feed(images(B)), clock())

    def prior() -> Tensor:
        return (t.randn(B, Z) if noise == "normal" else 2 * t.rand(B, Z) - 1).double()

    def check(player: str, loss: Tensor, *modules) -> None:
        expected = gradients({player: loss}, {player: parameters(*modules)})
        assert_same(taken(model, next(play)), expected)
        step(model, twin, expected)

    p = 1 / (1 + (-twin.decoder(twin.encoder(x))).exp())
    squared, nats = ((p - x) ** 2).sum() / B, -(x * p.log() + (1 - x) * (1 - p).log()).sum() / B
    check("autoencoder", nats if reconstruction == "bernoulli" else squared, twin.encoder, twin.decoder)
    z = prior().requires_grad_()
    real = twin.critic(z)
    (slope,) = torch.autograd.grad(real.sum(), z, create_graph=True)
    r1 = 0.5 * slope.square().sum(1).mean()
    check("critic", CRITIC[kind](real, twin.critic(twin.encoder(x).detach())) + r1, twin.critic)
    real = twin.critic(prior())
    check("encoder", GENERATOR[kind](real, twin.critic(twin.encoder(x))), twin.encoder)
    assert next(play, None) is None


def test_aae_codes_of_extra_critic_steps_are_of_fresh_images():
    model = build("aae", **DENSE, critic_steps=3, generator_steps=2)
    batches = [images(B, seed=i) for i in range(3)]
    moves = [next(iter(m)) for m in model.play(feed(*batches), clock())]
    assert moves == ["critic", "critic", "autoencoder", "critic", "encoder", "encoder"]


def test_a_shared_encoder_is_averaged_once():
    """After a round the average has moved once by its share of the way, for the player that shares and the one it
    shares with."""
    model = build("aae", **DENSE)
    average = copy.deepcopy(model)
    before = {k: v.clone() for k, v in average.state_dict().items()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))
    seats = {k: Seat(ema=e) for k, e in (("autoencoder", 100.0), ("critic", 50.0), ("encoder", 10.0))}
    Averages(average, model, seats).update(fresh=20, seen=100_000)
    for name, new in model.state_dict().items():
        kept = 0.5 ** (20 / (50 if name.startswith("critic") else 100))
        expected = kept * before[name].double() + (1 - kept) * new.double()
        torch.testing.assert_close(average.state_dict()[name].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_shared_encoder_is_averaged_once_in_training():
    model = build("aae", **DENSE)
    trainer = Trainer(model, tiny_data((1, 6, 6)), examples=800, batch_size=8, ema=40, lr=0.01, quiet=True)
    for _ in range(60):
        trainer.round()
    before = {k: v.clone() for k, v in trainer.average.state_dict().items()}
    trainer.round()
    kept = 0.5 ** (8 / 40)  # 488 examples are behind it, a tenth of which is more than the half-life
    moved = 0.0
    for name, new in model.state_dict().items():
        expected = kept * before[name] + (1 - kept) * new
        torch.testing.assert_close(trainer.average.state_dict()[name], expected, rtol=1e-4, atol=1e-6)
        moved = max(moved, float((expected - before[name]).abs().max()))
    assert moved > 1e-3


@pytest.mark.parametrize("name", ["aae", "began"])
def test_log_prior_is_that_of_the_noise(name):
    for noise, inside, outside in (
        ("normal", -0.5 * (0.3**2 + 0.4**2) - math.log(2 * math.pi), -0.5 * (1.5**2 + 0.4**2) - math.log(2 * math.pi)),
        ("uniform", -2 * math.log(2), -math.inf),
    ):
        model = lf.create(name, image_shape=(1, 6, 6), latent_dim=2, net="mlp", hidden=(8,), noise=noise)
        found = model.log_prior(torch.tensor([[0.3, -0.4], [1.5, 0.4]])).tolist()
        assert found == pytest.approx([inside, outside], rel=1e-5)
        drawn = model.draw_prior(4000, torch.Generator().manual_seed(0))
        assert float(drawn.std()) == pytest.approx(1 if noise == "normal" else 1 / math.sqrt(3), rel=0.03)
        assert (float(drawn.abs().max()) <= 1) == (noise == "uniform")


def test_an_argument_noise_of_a_game_of_ones_own_is_not_its_prior():
    game = lf.Game()
    game.latent_dim, game.noise = 2, "uniform"
    assert float(game.draw_prior(4000, torch.Generator().manual_seed(0)).std()) == pytest.approx(1, rel=0.03)
    assert game.log_prior(torch.full((1, 2), 2.0)).isfinite().all()


def test_aae_takes_no_augmentation():
    with pytest.raises(ValueError, match="codes"):
        lf.create("aae", image_shape=(1, 6, 6), augment="all")


# -- BiGAN -----------------------------------------------------------------------------------------------------------
SWAPPED = {  # what the maker of the real pairs descends
    "nonsaturating": lambda r: -(1 - d(r)).log().mean(),
    "minimax": lambda r: d(r).log().mean(),
    "least-squares": lambda r: (r**2).mean(),
    "hinge": lambda r: r.mean(),
    "wasserstein": lambda r: r.mean(),
    "relativistic": lambda r: 0 * r.mean(),
}


@pytest.mark.parametrize("encoder", ["deterministic", "stochastic"])
@pytest.mark.parametrize("kind", SWAPPED)
def test_bigan(kind, encoder):
    """Equation 3: the critic tells (x, E(x)) from (G(z), z); encoder and generator together descend its loss with the
    roles exchanged."""
    model = build("bigan", **DENSE, loss=kind, encoder=encoder)
    twin, t, x = copy.deepcopy(model).double(), clock(), images(B).double() * 2 - 1
    play = model.play(feed(images(B)), clock())
    judge, shown = model.critic.forward, []
    model.critic.forward = lambda *pair: (shown.append(pair), judge(*pair))[1]

    def pairs() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        z, noise, h = t.randn(B, Z).double(), t.randn(B, Z).double(), twin.encoder(x)
        code = h if encoder == "deterministic" else h[:, :Z] + (h[:, Z:] / 2).exp() * noise
        return (x, code), (twin.generator(z), z)

    real, fake = ([v.detach() for v in pair] for pair in pairs())
    expected = gradients({"critic": CRITIC[kind](twin.critic(*real), twin.critic(*fake))},
                         {"critic": parameters(twin.critic)})  # fmt: skip
    assert_same(taken(model, next(play)), expected)
    for found, right in zip(shown, (real, fake), strict=True):
        for a, b in zip(found, right, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)
    step(model, twin, expected)

    real, fake = pairs()
    a, b = twin.critic(*real), twin.critic(*fake)
    loss = GENERATOR[kind](a, b) + SWAPPED[kind](a)
    parts = {"encoder": parameters(twin.encoder), "generator": parameters(twin.generator)}
    assert_same(taken(model, next(play)), gradients({"encoder": loss, "generator": loss}, parts))
    assert next(play, None) is None


# -- the joint VAE-GAN: its rounds -----------------------------------------------------------------------------------
PHASES = {"gan_rounds": 2, "vae_rounds": 4, "start_rounds": 1, "noise_dim": 5, "generator_hidden": (9,)}


def joint(**options):
    return build("joint-vae-gan", **DENSE, **PHASES | options)


def in_phase(model, phase: int, rounds: int = 0):
    model.phases.phase.fill_(phase), model.phases.rounds.fill_(rounds)
    return model


class JointReference:
    """The article's terms in float64."""

    def __init__(self, model):
        self.twin, self.t, self.x = copy.deepcopy(model).double(), clock(), images(B).double()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.twin.encoder(x)
        return h[:, :Z], h[:, Z:].exp()

    def real(self) -> tuple[Tensor, Tensor]:
        mean, variance = self.posterior(self.x)
        return self.x, mean + variance.sqrt() * self.t.randn(B, Z).double()

    def made(self) -> tuple[Tensor, Tensor]:
        z = self.twin.generator(2 * self.t.rand(B, 5).double() - 1)
        return 1 / (1 + (-self.twin.decoder(z)).exp()), z


@pytest.mark.parametrize("kl", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["minimax", "nonsaturating", "least-squares"])
def test_gan_phase(kind, kl):
    """The critic on (x, z) and (decoder(G(u)), G(u)); the generator by its verdict and by the KL of the posterior from
    the Gaussian of its own codes."""
    model = joint(loss=kind, kl=kl)
    ref, mine = JointReference(model), clock()
    play = model.play(feed(images(B)), mine)

    real, fake = (tuple(v.detach() for v in pair) for pair in (ref.real(), ref.made()))
    cost = CRITIC[kind](ref.twin.critic(*real), ref.twin.critic(*fake))
    expected = gradients({"critic": cost}, {"critic": parameters(ref.twin.critic)})
    assert_same(taken(model, next(play)), expected)
    step(model, ref.twin, expected)

    move = next(play)
    gap = d(ref.twin.critic(*real)).log().mean() - d(ref.twin.critic(*fake)).log().mean()  # of the critic that stepped
    assert mine.logged["gap"].item() == pytest.approx(gap.item(), rel=1e-4)
    assert mine.logged["generator_sits_out"] == 0
    fake = ref.made()
    own_mean = sum(fake[1]) / B
    own_variance = ((fake[1] - own_mean) ** 2).sum(0) / (B - 1) + 1e-6
    mean, variance = (v.detach() for v in ref.posterior(ref.x))
    divergence = gaussian_kl(mean, variance, own_mean, own_variance)
    assert mine.logged["generator_kl"].item() == pytest.approx(divergence.item(), rel=1e-4)
    loss = GENERATOR[kind](ref.twin.critic(*real), ref.twin.critic(*fake)) + kl * divergence
    assert_same(taken(model, move), gradients({"generator": loss}, {"generator": parameters(ref.twin.generator)}))
    assert next(play, None) is None


def test_start_rounds():
    """The encoder alone, on pairs the generator made: -log q(z*|x*), in nats."""
    model = in_phase(joint(), VAE)
    ref, mine = JointReference(model), clock()
    (move,) = model.play(feed(images(B)), mine)
    x, z = (v.detach() for v in ref.made())
    mean, variance = ref.posterior(x)
    loss = 0.5 * ((z - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi)).sum(1).mean()
    assert mine.logged["start"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert_same(taken(model, move), gradients({"encoder": loss}, {"encoder": parameters(ref.twin.encoder)}))
    (again,) = model.play(feed(images(B, seed=9)), clock())
    assert torch.equal(again["encoder"], move["encoder"])  # whatever the images of the data are


def test_vae_phase():
    model = in_phase(joint(), VAE, 1)
    ref = JointReference(model)
    (move,) = model.play(feed(images(B)), clock())
    mean, variance = ref.posterior(ref.x)
    p = 1 / (1 + (-ref.twin.decoder(ref.real()[1])).exp())
    loss = -(ref.x * p.log() + (1 - ref.x) * (1 - p).log()).sum() / B
    loss = loss + gaussian_kl(mean, variance, torch.zeros(Z), torch.ones(Z))
    parts = {"encoder": parameters(ref.twin.encoder), "decoder": parameters(ref.twin.decoder)}
    assert_same(taken(model, move), gradients({"encoder": loss, "decoder": loss}, parts))


def test_phases_follow_one_another():
    """2 GAN rounds, then 1 that starts the encoder and 3 of the VAE, and again."""
    trainer = Trainer(joint(patience=0), tiny_data((1, 6, 6)), examples=10_000, batch_size=8, quiet=True)
    moves: list[list[tuple[str, ...]]] = []
    following = trainer.next_move

    def watched():
        found = following()
        moves[-1] += [] if found is None else [tuple(found)]
        return found

    trainer.next_move = watched
    for _ in range(13):
        moves.append([])
        trainer.round()
    gan, start, vae = [("critic",), ("generator",)], [("encoder",)], [("encoder", "decoder")]
    assert moves == [gan, gan, start, vae, vae, vae] * 2 + [gan]


def test_a_converged_model_can_be_trained_on():
    model = joint()
    model.phases.stale.fill_(99)
    model.gap.fill_(3.0)
    assert model.converged
    trainer = Trainer(model, tiny_data((1, 6, 6)), examples=64, batch_size=8, quiet=True)
    assert not model.converged
    assert float(model.gap) == UNKNOWN
    trainer.fit()
    assert trainer.clocks[0].round == 8


# -- the joint VAE-GAN: who sits out, and when it ends ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("gap", "tau", "plays"),
    [(0.01, 1.0, True), (0.0, 1.0, False), (-0.5, 1.0, False), (0.5, 2.0, False), (0.7, 2.0, True), (-0.6, 0.5, True)],
)
def test_the_generator_steps_only_above_log_tau(gap, tau, plays):
    model, t = joint(tau=tau, generator_steps=2), clock()
    model.gap.fill_(gap)
    moves = [tuple(m) for m in model.play(feed(images(B)), t)]
    assert moves == [("critic",)] + [("generator",)] * (2 * plays)
    assert t.logged["generator_sits_out"] == (not plays)


def test_before_anything_is_known_the_generator_plays():
    assert ("generator",) in [tuple(m) for m in joint(tau=100.0).play(feed(images(B)), clock())]


def settle(model, **seen: float) -> None:
    t = clock()
    t.means = {k: torch.tensor(v) for k, v in seen.items()}
    model.settle(t)


def test_the_gap_is_a_running_average():
    model, expected = joint(gan_rounds=100), None
    for value in (0.8, 0.2, -0.4, math.nan, 0.1):
        settle(model, gap=value)
        if not math.isnan(value):
            expected = value if expected is None else 0.9 * expected + 0.1 * value
        assert model.gap.item() == pytest.approx(expected, rel=1e-5)


def phases(model, *losses: float) -> list[int]:
    """`stale` after each phase of the VAE with this mean loss; the start rounds log no loss."""
    out = []
    for loss in losses:
        for _ in range(2):
            settle(model, gap=1.0)
        assert int(model.phases.phase) == VAE
        settle(model, start=3.0)
        for change in (-5.0, 0.0, 5.0):
            settle(model, loss=loss + change)
        assert int(model.phases.phase) == GAN
        out.append(int(model.phases.stale))
    return out


def test_convergence_counts_phases_without_a_fall():
    """A fall is one by the tolerance below the best; smaller ones, and rises, count against it."""
    model = joint(tolerance=0.1, patience=3)
    assert phases(model, 100.0, 85.0, 80.0, 90.0) == [0, 0, 1, 2]
    assert model.phases.best.item() == pytest.approx(85.0)
    assert not model.converged
    assert phases(model, 70.0, 64.0, 70.0) == [0, 1, 2]
    assert not model.converged
    assert phases(model, 63.5) == [3]
    assert model.converged
    endless = joint(tolerance=0.1, patience=0)
    assert phases(endless, *[50.0] * 8)[-1] == 7
    assert not endless.converged


def stopping(run: Run | None = None) -> Trainer:
    """A trainer whose VAE phases cannot fall by half, so that the second and third count against it."""
    return Trainer(
        joint(tolerance=0.5, patience=2), tiny_data((1, 6, 6)), examples=8000, batch_size=8, run=run, quiet=True
    )


def state_of(model) -> dict[str, float]:
    """What decides the model's next round, apart from its weights."""
    return {k: v.item() for k, v in model.named_buffers() if k == "gap" or k.startswith("phases.")}


@pytest.mark.parametrize("name", ["joint-vae-gan", "larsen-vae-gan", "began"])
def test_the_average_that_is_saved_has_the_state_of_the_game(name):
    """Gates, phases and balances belong to no player, and are copied, not averaged."""
    options = {"gamma": 0.9, "proportional_gain": 0.2} if name == "began" else {}
    model = joint() if name == "joint-vae-gan" else build(name, net="mlp", hidden=(8,), latent_dim=Z, **options)
    owned = {id(b) for ms in model.players().values() for m in ms for b in m.buffers()}
    trainer = Trainer(model, tiny_data((1, 6, 6)), examples=10_000, batch_size=8, quiet=True)
    before = {k: v.clone() for k, v in model.named_buffers()}
    for _ in range(4 if name != "began" else 12):
        trainer.round()
    state = {k: v for k, v in model.named_buffers() if id(v) not in owned}
    assert any(not torch.equal(before[k], v) for k, v in state.items())
    averaged = dict(trainer.average.named_buffers())
    for key, value in state.items():
        assert torch.equal(averaged[key], value), key


def test_training_ends_before_its_budget():
    trainer = stopping()
    trainer.fit()
    assert trainer.clocks[0].round == 3 * (2 + 4)
    assert trainer.clocks[0].examples == 18 * 8 < 8000
    assert trainer.model.converged


def test_the_state_of_the_game_survives_a_checkpoint(tmp_path):
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    half = stopping(run)
    half.started = half.base_seconds = 0.0
    for _ in range(11):  # in the middle of the second VAE phase
        half.round()
    half.checkpoint()
    state = state_of(half.model)
    assert [int(state[f"phases.{k}"]) for k in ("phase", "rounds", "stale")] == [VAE, 3, 0]
    assert state["phases.total"] > 0
    assert 0 < state["phases.best"] < 1000
    assert abs(float(state["gap"])) < 100
    again = stopping(run)
    tensors, saved, _ = run.load_checkpoint()
    take_up(again, tensors, saved)
    assert state_of(again.model) == state
    again.fit()
    assert again.clocks[0].round == 18


def test_samples_are_decoded_codes_of_the_generator():
    model = joint().eval()
    noise = 2 * torch.rand(7, 5, generator=torch.Generator().manual_seed(4)) - 1
    with torch.no_grad():
        torch.testing.assert_close(model.draw_prior(7, torch.Generator().manual_seed(4)), model.generator(noise))
        torch.testing.assert_close(model.sample(7, seed=2), torch.sigmoid(model.decoder(model.draw_codes(7, 2))))


def test_a_phase_needs_rounds_after_its_start():
    with pytest.raises(ValueError, match="start_rounds"):
        joint(start_rounds=4)


def test_a_batch_of_one_trains():
    """One code has no variance; the step must still be finite."""
    trainer = Trainer(joint(), tiny_data((1, 6, 6)), examples=8, batch_size=1, quiet=True)
    for _ in range(2):
        trainer.round()
    assert trainer.bad_steps == 0


# -- VAE-GAN ---------------------------------------------------------------------------------------------------------
def test_relativistic_pairs_of_both_kinds_of_fakes():
    """Each real image faces a reconstruction and a sample: two pairs, which cost the critic as much as they are told
    to, and as much as their mirror images cost the decoder."""
    model = build(
        "larsen-vae-gan", net="mlp", hidden=(12,), latent_dim=Z, loss="relativistic", fakes="both", margin=0.0
    )
    twin, t, x = copy.deepcopy(model).double(), clock(), images(B).double()
    (move,) = model.play(feed(images(B)), clock())
    mean, log_variance = twin.encoder(x).chunk(2, 1)
    codes = (mean + (log_variance / 2).exp() * t.randn(B, Z).double(), t.randn(B, Z).double())
    fakes = [twin.critic(1 / (1 + (-twin.decoder(z)).exp()).detach()) for z in codes]
    loss = sum(-d(twin.critic(x) - f).log().mean() for f in fakes)
    expected = gradients({"critic": loss}, {"critic": parameters(twin.critic)})
    assert_same(taken(model, {"critic": move["critic"]}), expected)
