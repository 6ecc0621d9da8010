"""Games that train in stages, and the flagship that does: when a stage begins, what it begins from, and that a run that is
cut short in any stage goes on as if nothing had happened."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from torch import Tensor

import latentforge as lf
from conftest import tiny_data
from latentforge.api import create_for
from latentforge.checkpoint import take_up
from latentforge.clock import Clock
from latentforge.data.batch import Batch, Images
from latentforge.data.dataset import Dataset
from latentforge.errors import InputError
from latentforge.game import own_parameters
from latentforge.gradients import gradients_of
from latentforge.models.vae_gan import POOL_SEED
from latentforge.parts.adversarial import Loss, generator_loss
from latentforge.parts.augment import FEW
from latentforge.run import Run
from latentforge.schedules import decay
from latentforge.train import Trainer

SHAPE, B, Z = (1, 8, 8), 6, 3
SMALL = {"net": "mlp", "critic_net": "mlp", "hidden": (12,), "latent_dim": Z}
NORMED = SMALL | {"game": "dcgan", "net": "conv", "critic_net": "conv", "width": 4, "critic_width": 4}
NORMED |= {"image_shape": (1, 16, 16)}  # large enough for batch norm in the critic


def build(seed: int = 0, **options):
    torch.manual_seed(seed)
    return lf.create("vae-gan", **{"image_shape": SHAPE, **SMALL, **options})


def trainer(model, data=None, **options) -> Trainer:
    return Trainer(model, data or tiny_data(SHAPE), **{"examples": 160, "batch_size": 16, "quiet": True, **options})


def weights(model) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_a_stage_begins_at_its_share_of_the_budget_from_the_averages():
    model = build(share=0.45)
    t = trainer(model)
    entered, enter = [], model.enter
    for round_ in range(10):
        averages = weights(t.average)
        t.average.enter = lambda stage, *rest, at=round_: (entered.append((stage, at)), enter(stage, *rest))
        t.advance()
        if entered == [(1, round_)]:
            assert all(torch.equal(v, averages[k]) for k, v in model.named_parameters())
        t.round()
    assert entered == [(1, 5)]  # 5 rounds of 16 are the first of which .45 of 160 is exceeded


def test_a_share_of_zero_leaves_no_first_stage():
    t = trainer(build(share=0.0))
    t.round()
    assert t.clocks[0].stage == 1


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none(share):
    with pytest.raises((InputError, ValueError), match="share"):
        build(share=share)


def test_the_schedule_of_a_player_runs_over_its_span():
    for kind, half in (("linear", 0.5), ("cosine", 0.5)):
        assert decay(kind, 0.1, (0.2, 0.6)) == 1
        assert decay(kind, 0.4, (0.2, 0.6)) == pytest.approx(half)
        assert decay(kind, 0.9, (0.2, 0.6)) == 0
    assert decay("constant", 0.9, (0.2, 0.6)) == 1


def test_who_moves_in_which_stage():
    model = build(share=0.5)
    t = trainer(model, ema=0)
    for _ in range(10):
        before, stage = weights(model), None
        t.round()
        stage = t.clocks[0].stage
        moved = {k.partition(".")[0] for k, v in model.named_parameters() if not torch.equal(v, before[k])}
        assert moved == ({"decoder", "critic"} if stage else {"encoder", "decoder"})
    assert stage == 1


def test_the_sampler_is_fitted_once_and_its_codes_are_played():
    """What stage 1 is shown as drawn codes comes from the sampler that the trained model samples from."""
    model = build(share=0.5, mix=0.0)
    t = trainer(model)
    for _ in range(6):
        t.round()
    sampler = model.sampler
    assert sampler is t.average.sampler is not None
    assert model.pool[0] is sampler
    assert torch.equal(model.draw_codes(len(model.pool[1]), seed=POOL_SEED), model.pool[1])
    trained = t.fit()
    assert trained.sampler is sampler


def test_a_model_that_is_trained_once_more_draws_from_its_new_sampler():
    model = build(share=0.5)
    old = trainer(model).fit().sampler
    trainer(model, tiny_data(SHAPE, seed=5)).fit()
    assert model.sampler is not old
    assert model.pool[0] is model.sampler


def test_with_all_of_the_budget_the_first_stage_is_a_plain_vae():
    model = build(share=1)
    before = weights(model)
    trained = trainer(model, sampler="gmm").fit().state_dict()
    changed = {k.split(".")[0] for k, v in before.items() if not torch.equal(v, trained[k])}
    assert changed == {"encoder", "decoder"}
    assert model.sampler is not None
    assert [[t.player for t in move] for move in model.objective()] == [["encoder", "encoder", "decoder"]]


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_gradients_of_the_first_stage(beta):
    """-log p(x|z) + beta KL(q(z|x) || N(0, I)), written out in float64; both players descend it."""
    model, t = build(beta=beta).train(), Clock(11)
    t.start_round()
    x = torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(1))
    eps = copy.deepcopy(t).randn(B, Z).double()
    (move,) = model.play(iter([Batch(x, None, torch.arange(B))]), t)
    twin, real = copy.deepcopy(model).double(), x.double()
    mean, log_variance = twin.encoder(real).chunk(2, 1)
    p = torch.sigmoid(twin.decoder(mean + (log_variance / 2).exp() * eps))
    loss = -(real * p.log() + (1 - real) * (1 - p).log()).sum() / B
    loss = loss + beta * 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum() / B
    assert set(move) == {"encoder", "decoder"}
    for player in move:
        found = torch.autograd.grad(move[player], own_parameters(model)[player], retain_graph=True)
        expected = torch.autograd.grad(loss, own_parameters(twin)[player], retain_graph=True)
        for got, right in zip(found, expected, strict=True):
            torch.testing.assert_close(got.double(), right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("drawn", [48, 80, 112])
@pytest.mark.parametrize("sampler", ["gmm", "prior"])
def test_a_run_cut_short_in_any_stage_ends_alike(drawn, sampler, tmp_path):
    options = {"sampler": sampler}
    whole = weights(trainer(build(share=0.45), **options).fit())
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    half = trainer(build(share=0.45), run=run, **options)
    half.started = half.base_seconds = 0.0
    while half.streams[0].drawn < drawn:
        half.round()
    half.checkpoint()
    again = trainer(build(seed=9, share=0.45), run=run, **options)
    take_up(again, *run.load_checkpoint()[:2])
    begun = again.average.sampler is not None
    assert again.average.sampler_scores.keys() == ({"gmm", "prior"} if begun else set())
    end = weights(again.fit())
    assert end.keys() == whole.keys()
    assert all(torch.equal(v, whole[k]) for k, v in end.items())
    assert any(k.startswith("sampler.") for k in end) == (sampler == "gmm")


# ---- the flagship's second stage, against a reference in float64 ----------------------------------------------------


def second_stage(mix: float, **options):
    model = build(mix=mix, r1=0.0, r2=0.0, **options)
    model.pool = model.sampler, torch.randn(50, Z, generator=torch.Generator().manual_seed(2))
    t = Clock(11)
    t.round, t.stage = 3, 1
    t.start_round()
    return model.train(), t


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_gradients_of_the_second_stage(mix):
    """Relativistic pairs and the likeness of those codes that come from images, written out for one example at a time."""
    model, t = second_stage(mix, pixel=0.3)
    x = torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(1))
    noise = copy.deepcopy(t)
    own = [int(mix * (i + 1)) > int(mix * i) for i in range(B)]
    pick, eps = noise.rand(B, 1)[:, 0], noise.randn(B, Z)
    (move,) = model.play(iter([Batch(x, None, torch.arange(B))]), t)
    parts = own_parameters(model)
    found = {k: torch.autograd.grad(v, parts[k], retain_graph=True) for k, v in move.items()}
    assert set(found) == {"generator", "critic"}
    assert sum(own) == mix * B

    twin = copy.deepcopy(model).double()
    generator, critic = torch.zeros(()).double(), torch.zeros(()).double()
    for i in range(B):
        image = x[i : i + 1].double()
        with torch.no_grad():
            mean, log_variance = twin.encoder(image).chunk(2, 1)
            z = mean + (0.5 * log_variance).exp() * eps[i : i + 1].double()
        if not own[i]:
            z = model.pool[1][int(pick[i] * 50)][None].double()
        p = torch.sigmoid(twin.decoder(z))
        gap = twin.critic((1.06 * p - 0.03).clamp(0, 1)) - twin.critic(image)
        critic = critic + torch.log1p(gap.exp()).squeeze() / B
        generator = generator + torch.log1p((-gap).exp()).squeeze() / B
        if own[i]:
            generator = generator - 0.3 * (image * p.log() + (1 - image) * (1 - p).log()).sum() / B
    parts = own_parameters(twin)
    for name, loss in (("generator", generator), ("critic", critic)):
        for got, expected in zip(found[name], torch.autograd.grad(loss, parts[name], retain_graph=True), strict=True):
            torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", get_args(Loss))
@pytest.mark.parametrize("options", [{}, {"label_noise": 0.3}, {"minibatch": 2}], ids=str)
def test_one_pass_back_gives_each_player_its_own_gradient(loss, options):
    """Whether or not both players share it: the gradients are those of each one's loss, written out apart."""
    model, t = second_stage(0.5, pixel=0.3, loss=loss, **options)
    x = torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(1))
    again = copy.deepcopy(t)
    (move,) = model.play(iter([Batch(x, None, torch.arange(B))]), t)
    parts = own_parameters(model)
    found = gradients_of(move, parts, 1.0)
    assert (move["generator"] is move["critic"]) == (not options and loss not in ("hinge", "least-squares"))

    z, own = model.codes(x, again)
    p = torch.sigmoid(model.decoder(z))
    fake = (1.06 * p - 0.03).clamp(0, 1)
    costs = model.costs(model.critic(x), model.critic(fake.detach()), again)
    fool = generator_loss(model.critic(fake), loss, model.critic(x).detach()).mean()
    likeness = -0.3 * (x * p.log() + (1 - x) * (1 - p).log())[own].sum() / B
    for player, loss_ in (("critic", costs[0].mean() + costs[1].mean()), ("generator", fool + likeness)):
        for got, expected in zip(found[player], torch.autograd.grad(loss_, parts[player]), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_dcgans_game_is_played_in_turn():
    """Gradients of each move, the generator's against the critic that has just stepped, written out in float64. Images of
    a batch are normed together."""
    model, t = second_stage(0.5, pixel=0.3, **NORMED)
    x = torch.rand(B, *model.image_shape, generator=torch.Generator().manual_seed(1))
    again, parts = copy.deepcopy(t), own_parameters(model)
    moves = model.play(iter([Batch(x, None, torch.arange(B))]), t)
    move = next(moves)
    assert list(move) == ["critic"]
    gradients = torch.autograd.grad(move["critic"], parts["critic"])
    twin = copy.deepcopy(model).double()
    z, own = (v.double() if isinstance(v, Tensor) else v for v in model.codes(x, again))
    real, p = x.double(), torch.sigmoid(twin.decoder(z))
    fake = (1.06 * p - 0.03).clamp(0, 1)
    loss = -(torch.sigmoid(twin.critic(real)).log() + (1 - torch.sigmoid(twin.critic(fake))).log()).mean()
    expected = [torch.autograd.grad(loss, own_parameters(twin)["critic"], retain_graph=True)]
    with torch.no_grad():
        for m in (model, twin):
            for weight in own_parameters(m)["critic"]:
                weight *= 1.1
    move = next(moves)
    assert list(move) == ["generator"]
    found = [gradients, torch.autograd.grad(move["generator"], parts["generator"])]
    loss = -torch.sigmoid(twin.critic(fake)).log().mean()
    loss = loss - 0.3 * (real * p.log() + (1 - real) * (1 - p).log())[own].sum() / B
    expected.append(torch.autograd.grad(loss, own_parameters(twin)["generator"]))
    for got, right in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        torch.testing.assert_close(got.double(), right, rtol=1e-3, atol=1e-5)
    assert next(moves, None) is None


class Sure(torch.nn.Module):
    """D(x) = 1000 mean(x) - 700: about -200 at what an untrained decoder makes, 300 at white."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(1000.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x.flatten(1).mean(1) - 700


@pytest.mark.parametrize("loss", ["relativistic", "nonsaturating"])
def test_a_critic_that_is_sure_still_teaches_the_generator(loss):
    """Its own gradient underflows so far from a fair game, where the generator's is of order 1."""
    model, t = second_stage(0.0, loss=loss)
    model.critic, x, again = Sure(), torch.ones(B, *SHAPE), copy.deepcopy(t)
    (move,) = model.play(iter([Batch(x, None, torch.arange(B))]), t)
    assert move["generator"] is move["critic"]
    parts = own_parameters(model)
    found = gradients_of(move, parts, 1.0)
    fool = generator_loss(model.critic(model.generate(model.codes(x, again)[0])), loss, model.critic(x).detach()).mean()
    for got, right in zip(found["generator"], torch.autograd.grad(fool, parts["generator"]), strict=True):
        assert got.abs().max() > 1e-3
        torch.testing.assert_close(got, right, rtol=1e-3, atol=1e-6)
    assert found["critic"][0].abs() < 1e-9


def test_extra_critic_steps_come_first_and_move_the_critic_alone():
    model, t = second_stage(0.5, critic_steps=3)
    batches = iter([Batch(torch.rand(B, *SHAPE), None, torch.arange(B))] * 3)
    assert [set(move) for move in model.play(batches, t)] == [{"critic"}, {"critic"}, {"generator", "critic"}]


def test_images_reach_black_and_white_where_there_is_a_game():
    z = 40 * torch.randn(50, Z)
    model = build(stretch=0.1)
    images, p = model.generate(z), torch.sigmoid(model.decoder(z))
    assert images.min() == 0
    assert images.max() == 1
    assert torch.allclose(images, (p + 0.1 * (2 * p - 1)).clamp(0, 1), atol=1e-6)
    assert torch.equal(images[p == 0.5], p[p == 0.5])
    vae = build(stretch=0.1, share=1.0)  # its mean is the Bernoulli's
    assert torch.equal(vae.generate(z), torch.sigmoid(vae.decoder(z)))
    with pytest.raises(ValueError, match="stretch"):
        build(stretch=-0.1)


def test_the_stretch_stays_out_of_the_likelihood():
    x, z = torch.rand(5, *SHAPE), torch.randn(5, Z)
    plain, stretched = build(stretch=0.0), build(stretch=0.2)
    assert torch.equal(plain.reconstruction_nll(z, x), stretched.reconstruction_nll(z, x))


# -- what follows from the images --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "game", "rate", "penalty", "code", "batch"),
    [
        ((1, 8, 8), "r3gan", 4e-3, 0.0, 16, 64),
        ((1, 28, 28), "r3gan", 4e-3, 0.0, 16, 64),
        ((1, 28, 55), "r3gan", 2.854e-3, 0.00826, 32, 64),
        ((1, 28, 56), "dcgan", 8e-4, 0.0, 32, 64),
        ((3, 64, 64), "dcgan", 2e-4, 0.0, 64, 32),
    ],
)
def test_what_follows_from_the_size_of_the_image(shape, game, rate, penalty, code, batch):
    """Small images play R3GAN's game, larger ones DCGAN's. What is asked for stays."""
    options = {k: v for k, v in SMALL.items() if k != "latent_dim"}
    model = lf.create("vae-gan", image_shape=shape, **options)
    seats = model.seats()
    assert seats["generator"].lr == seats["critic"].lr == pytest.approx(rate, rel=1e-3)
    assert (model.r1, model.r2) == pytest.approx((penalty, penalty), rel=1e-3)
    assert (model.game, model.latent_dim, model.batch_size) == (game, code, batch)
    assert model.encode(torch.rand(2, *shape)).mean.shape == (2, code)
    decided = ("game", "loss", "r1", "r2", "latent_dim", "width", "wide", "critic_width", "share", "pixel", "mix")
    assert {k: model.args[k] for k in decided} == {k: getattr(model, k) for k in decided}  # loads under other defaults
    asked = lf.create("vae-gan", image_shape=shape, r1=0.5, r2=0.0, latent_dim=3, loss="hinge", share=0.0, **options)
    assert (asked.r1, asked.r2, asked.latent_dim, asked.loss, asked.share) == (0.5, 0.0, 3, "hinge", 0.0)


@pytest.mark.parametrize(
    ("shape", "n", "game", "code", "share", "pixel"),
    [
        ((3, 64, 64), FEW - 1, None, 20, 0.25, 0.0101), ((3, 64, 64), FEW, None, 64, 0.1, 0.0505),
        ((3, 64, 64), FEW - 1, "r3gan", 20, 0.25, 0.02), ((1, 28, 28), FEW - 1, "dcgan", 16, 0.25, 0.04),
        ((1, 28, 28), FEW - 1, None, 16, 0.25, 0.02), ((1, 28, 28), FEW, None, 16, 0.25, 0.02),
    ],
)  # fmt: skip
def test_few_training_images_have_small_codes_and_a_long_first_stage(shape, n, game, code, share, pixel):
    images = Images(torch.zeros(n, *shape, dtype=torch.uint8))
    data = Dataset("few", "few", images, Images(images.pixels[:4]), Images(images.pixels[:4]))
    narrow = {"width": 2, "critic_width": 2, "wide": (), "game": game}
    model = create_for("vae-gan", data, 0, narrow)
    assert (model.latent_dim, model.share) == (model.args["latent_dim"], model.args["share"]) == (code, share)
    assert model.pixel == pytest.approx(pixel, rel=1e-2)
    asked = create_for("vae-gan", data, 0, narrow | {"latent_dim": 3, "share": 0.5, "pixel": 0.3})
    assert (asked.latent_dim, asked.share, asked.pixel) == (3, 0.5, 0.3)


@pytest.mark.parametrize(
    ("shape", "n", "options", "expected"),
    [
        ((3, 32, 32), FEW - 1, {}, "constant"), ((3, 32, 32), FEW, {}, "cosine"), ((1, 28, 28), FEW - 1, {}, "cosine"),
        ((3, 32, 32), FEW - 1, {"share": 1.0}, "cosine"), ((3, 32, 32), FEW - 1, {"game": "r3gan"}, "cosine"),
    ],
)  # fmt: skip
def test_few_training_images_keep_the_rate_of_dcgans_game(shape, n, options, expected):
    images = Images(torch.zeros(n, *shape, dtype=torch.uint8))
    data = Dataset("few", "few", images, Images(images.pixels[:4]), Images(images.pixels[:4]))
    model = create_for("vae-gan", data, 0, SMALL | options)
    assert trainer(model, data).schedule == expected
    many = Dataset("many", "many", Images(images.pixels[:1].expand(FEW, *shape)), data.validation, data.test)
    assert trainer(model, many).schedule == "cosine"  # whatever it was trained on before
    assert trainer(create_for("vae-gan", data, 0, SMALL | options), data, schedule="linear").schedule == "linear"


def test_the_game_that_is_asked_for():
    """Four times the numbers of R3GAN's game: half the rate, and penalties; DCGAN's on a small image."""
    large = lf.create("vae-gan", image_shape=(1, 56, 56), game="r3gan", **SMALL)
    assert (large.lr, large.r1, large.loss, large.batch_size) == (2e-3, pytest.approx(0.024), "relativistic", 32)
    small = build(**NORMED)
    assert (small.lr, small.r1, small.loss, small.batch_size) == (8e-4, 0.0, "nonsaturating", 64)
    assert small.batch_coupled
    assert not large.batch_coupled
    assert not build(game="dcgan").batch_coupled  # dense networks have no batch norm
    told = [lf.create("vae-gan", image_shape=(3, side, side), **SMALL) for side in (32, 64, 128, 256)]
    assert [m.width for m in told] == [m.critic_width for m in told] == [64, 32, 16, 16]
    assert [m.pixel for m in told[:2]] == pytest.approx([0.101, 0.0505], rel=1e-2)
    for net in (small.decoder, small.critic):
        assert any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())


@pytest.mark.parametrize(
    ("shape", "n", "options", "expected"),
    [
        (SHAPE, FEW - 1, {}, "translation-cutout"), (SHAPE, FEW, {}, "none"), (SHAPE, 20, {"augment": "color"}, "color"),
        (SHAPE, 20, {"augment": "none"}, "none"), ((2, 1, 1), 20, {}, "none"), ((1, 1, 9), 20, {}, "none"),
    ],
)  # fmt: skip
def test_few_training_images_are_changed_before_the_critic(shape, n, options, expected):
    """`auto` comes to something before the first round, which the configuration then says."""
    model = lf.create("vae-gan", image_shape=shape, **SMALL, **options)
    model.meet(Images(torch.rand(n, *shape)))
    assert model.augment == model.args["augment"] == expected
    real, fake, t = torch.rand(B, *shape), torch.rand(B, *shape), Clock(1)
    t.start_round()
    same = all(torch.equal(a, b) for a, b in zip(model.disguise((real, fake), t), (real, fake), strict=True))
    assert same == (expected == "none")


def test_a_run_keeps_what_auto_came_to(tmp_path, capsys):
    lf.fit("vae-gan", tiny_data(SHAPE), out=tmp_path / "run", model_options=SMALL, examples=32)
    run = Run.open(tmp_path / "run")
    assert run.config["model"]["augment"] == "translation-cutout"
    assert "critic sees images under translation-cutout" in capsys.readouterr().err


@pytest.mark.parametrize("drawn", [48, 112])
def test_an_unfinished_run_can_be_used_in_any_stage(drawn, tmp_path):
    half = trainer(build(share=0.45))
    settings = {"name": "vae-gan", **{k: list(v) if isinstance(v, tuple) else v for k, v in half.model.args.items()}}
    half.run = Run.create(tmp_path / "run", {"model": settings, "data": {"source": "memory"}, "train": {}})
    half.started = half.base_seconds = 0.0
    while half.streams[0].drawn < drawn:
        half.round()
    half.checkpoint()
    model = lf.load(tmp_path / "run")
    assert (model.sampler is not None) == (drawn == 112)
    assert torch.equal(model.sample(3, seed=0), half.average.sample(3, seed=0))


def test_the_share_of_images_holds_in_small_batches_too():
    """Counted over the run and not batch by batch: three of ten codes are those of images, one at a time or all at once."""
    model = lf.create("vae-gan", image_shape=(1, 8, 8), mix=0.3, **SMALL).eval()
    model.pool = model.sampler, torch.randn(50, model.latent_dim)
    for size in (1, 2, 5, 10):
        t, own = Clock(), 0
        for t.examples in range(0, 100, size):
            t.start_round()
            own += len(model.codes(torch.rand(size, 1, 8, 8), t)[1])
        assert own == 30


def test_a_prior_that_was_chosen_is_not_asked_again(monkeypatch, tmp_path):
    """`auto` may find the prior likelier than any density, and stage 1 plays on its codes; a run too short for it fits too."""
    asked = []
    monkeypatch.setattr("latentforge.samplers.fit", lambda *what: asked.append(what[0]))
    options = {"batch_size": 16, "sampler": "auto", "quiet": True, "model_options": SMALL}
    run = lf.fit("vae-gan", tiny_data((1, 8, 8)), examples=160, out=tmp_path / "r", **options)
    assert (asked, run.sampler) == (["auto"], None)
    lf.resume(tmp_path / "r", data=tiny_data((1, 8, 8)), examples=320, quiet=True)
    assert asked == ["auto"]
    lf.fit("vae-gan", tiny_data((1, 8, 8)), examples=1, **options)
    assert asked == ["auto", "auto"]
