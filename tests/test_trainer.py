"""The trainer's promises, each on the smallest game that could break it."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import threading
import time
import weakref
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge import allocator, distributed, registry
from latentforge.allocator import want_of_memory
from latentforge.averages import Averages
from latentforge.checkpoint import state_of, take_up
from latentforge.clock import Clock
from latentforge.data.batch import Images, at_once
from latentforge.data.stream import Stream
from latentforge.data.synthetic import blobs
from latentforge.display import Display
from latentforge.errors import Collapsed, InputError, Interrupted, RunError
from latentforge.files import apart
from latentforge.game import Game, Seat, own_parameters
from latentforge.gradients import gradients_of
from latentforge.journal import Journal
from latentforge.optim import MOMENTUM, laid_out_like, make_optimizer, pack, seat_with, unpack
from latentforge.registry import MODELS, Entry, model_class, register
from latentforge.run import Run
from latentforge.saving import computes_in_bf16, pick_precision
from latentforge.schedules import budget
from latentforge.stopping import StopSignal, keep_ctrl_c
from latentforge.tasks.compare import passed_on
from latentforge.train import BAD_LIMIT, Trainer

SHAPE = (1, 8, 8)


class Tiny(Game):
    """A linear autoencoder of two players with one loss."""

    name = "tiny"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image_shape, self.latent_dim = SHAPE, 2
        self.encoder, self.decoder = nn.Linear(64, 2), nn.Linear(2, 64)

    def players(self):
        return {"encoder": [self.encoder], "decoder": [self.decoder]}

    def play(self, data, t):
        x = next(data).image.flatten(1)
        loss = (self.decoder(self.encoder(x)) - x).square().sum(1).mean()
        t.log("loss", loss)
        yield {"encoder": loss, "decoder": loss}

    def generate(self, z, y=None):
        return torch.sigmoid(self.decoder(z)).unflatten(1, SHAPE)

    def evaluate(self, batch):
        x = batch.image.flatten(1)
        return {"mse": (self.decoder(self.encoder(x)) - x).square().mean(1)}


def trainer_of(game: Game, **options) -> Trainer:
    options = {"examples": 160, "batch_size": 16, "ema": 0, "quiet": True} | options
    return Trainer(game, tiny_data(SHAPE), **options)


def copies(parameters) -> list[torch.Tensor]:
    return [p.detach().clone() for p in parameters]


# ---- learning rate, clipping, averages -------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 48])
def test_learning_rate_follows_the_schedule(schedule, warmup):
    trainer = trainer_of(Tiny(), schedule=schedule, warmup=warmup, lr="encoder=0.01,decoder=0.002")
    for r in range(10):
        trainer.round()
        progress = r * 16 / 160  # at the start of the round
        factor = {"constant": 1, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[schedule]
        if warmup:
            factor *= min(1, (r + 1) * 16 / 48)
        for player, rate in (("encoder", 0.01), ("decoder", 0.002)):
            assert trainer.optimizers[player].param_groups[0]["lr"] == pytest.approx(rate * factor)


def test_the_schedule_is_the_models_own_unless_told(tmp_path):
    game = Tiny()
    game.schedule = "cosine"
    assert trainer_of(game).schedule == "cosine"
    assert trainer_of(game, schedule="constant").schedule == "constant"
    few = {"examples": 32, "batch_size": 16, "quiet": True, "model_options": {"hidden": (4,), "critic_hidden": (4,)}}
    lf.fit("wgan", blobs(40, SHAPE), out=tmp_path / "run", **few)
    assert Run.open(tmp_path / "run").config["train"]["schedule"] == "linear"


@pytest.mark.parametrize(("clip", "cut"), [(0.5, True), (1e9, False)])
def test_clipping_by_the_norm_of_the_player(clip, cut):
    game = Tiny()
    trainer = trainer_of(game, optimizer="sgd", lr=1.0, clip=clip)
    before = {k: copies(ps) for k, ps in own_parameters(game).items()}
    x = trainer.data.train[next(Stream(trainer.data.train, 16)).index].image.flatten(1)
    loss = (game.decoder(game.encoder(x)) - x).square().sum(1).mean()
    full = {k: torch.autograd.grad(loss, ps, retain_graph=True) for k, ps in own_parameters(game).items()}
    trainer.round()
    for player, parameters in own_parameters(game).items():
        moved = torch.cat([(b - p).flatten() for b, p in zip(before[player], parameters, strict=True)])
        wanted = torch.cat([g.flatten() for g in full[player]])
        if cut:
            assert float(moved.detach().norm()) == pytest.approx(0.5, rel=1e-4)
            wanted = wanted * 0.5 / wanted.norm()
        torch.testing.assert_close(moved, wanted, rtol=1e-3, atol=1e-5)


class Normed(Tiny):
    """With batch norm in the encoder, a half-life per player, and a gate of the game's own."""

    batch_coupled = True

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 2), nn.BatchNorm1d(2))
        self.register_buffer("gate", torch.zeros(1))

    def seats(self):
        return {"encoder": Seat(lr=0.05, ema=100), "decoder": Seat(lr=0.05, ema=None)}

    def settle(self, t):
        self.gate += 1


def test_averages_against_a_slow_loop():
    game = Normed()
    trainer = Trainer(game, tiny_data(SHAPE), examples=160, batch_size=16, quiet=True)
    slow = {k: v.clone() for k, v in game.state_dict().items()}
    seen = 0
    for _ in range(10):
        trainer.round()
        seen += 16
        for name, value in game.state_dict().items():
            half_life = min(100, seen / 10) if name.startswith("encoder") else 0
            keep = 0.5 ** (16 / half_life) if half_life else 0.0
            slow[name] = keep * slow[name] + (1 - keep) * value if value.is_floating_point() else value.clone()
    averaged = trainer.average.state_dict()
    assert averaged.keys() == slow.keys()
    for name in slow:
        torch.testing.assert_close(averaged[name], slow[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(averaged["encoder.1.running_mean"], game.state_dict()["encoder.1.running_mean"])
    assert int(averaged["encoder.1.num_batches_tracked"]) == 10
    assert float(averaged["gate"]) == 10
    assert not trainer.average.training
    final = {k: v.clone() for k, v in averaged.items()}
    trained = trainer.fit()  # the budget is spent: only the averages are handed over
    assert all(torch.equal(v, final[k]) for k, v in trained.state_dict().items())


def test_an_average_with_a_long_half_life_forgets_the_start():
    """After ten thousand images the weights of the first hundred count next to nothing, whatever the half-life."""
    model, average = Tiny(), Tiny()
    seats = dict.fromkeys(("encoder", "decoder"), Seat(ema=1e9))
    with torch.no_grad():
        for p in average.parameters():
            p.fill_(1000.0)
        for p in model.parameters():
            p.zero_()
    averages = Averages(average, model, seats)
    for seen in range(100, 10_001, 100):
        averages.update(100, seen)
    assert max(float(p.detach().abs().max()) for p in average.parameters()) < 1e-6


# ---- gradients that are not finite ---------------------------------------------------------------------------------


class Broken(Tiny):
    """The decoder's loss is NaN in the rounds of `bad`."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    def play(self, data, t):
        x = next(data).image.flatten(1)
        loss = (self.decoder(self.encoder(x)) - x).square().sum(1).mean()
        yield {"encoder": loss, "decoder": loss * (float("nan") if t.round in self.bad else 1.0)}


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "momentum", "rmsprop"])
def test_a_player_with_a_bad_gradient_sits_out_alone(waits, optimizer):
    """Where the gradient is looked at before the step, and where, as on a GPU, nobody waits for it."""
    game = Broken(bad={1, 3})
    trainer = trainer_of(game, optimizer=optimizer)
    trainer.waits = waits
    for r in range(5):
        before = {k: copies(ps) for k, ps in own_parameters(game).items()}
        trainer.round()
        for player, parameters in own_parameters(game).items():
            moved = any(not torch.equal(b, p) for b, p in zip(before[player], parameters, strict=True))
            assert moved == (player == "encoder" or r not in (1, 3))
    trainer.read()
    assert trainer.bad_steps == 2


@pytest.mark.parametrize("clip", [None, 0.5])
def test_not_waiting_changes_nothing(clip):
    """Weights, optimiser states and counts, over good rounds and bad ones."""
    after = []
    for waits in (True, False):
        trainer = trainer_of(Broken(bad={1, 2, 5}), clip=clip)
        trainer.waits = waits
        for _ in range(8):
            trainer.round()
        trainer.read()
        tensors, numbers = state_of(trainer)
        after.append((tensors, numbers["bad_steps"], numbers["bad_in_a_row"]))
    (a, *counts), (b, *others) = after
    assert counts == others == [3, {"encoder": 0, "decoder": 0}]
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_bad_gradients_are_counted_in_the_statistics(tmp_path):
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    trainer = trainer_of(Broken(bad={2, 4}), examples=96)
    trainer.journal.open(run, False, trainer.model, "fp32", 64, None)
    trainer.started = trainer.base_seconds = 0.0
    for _ in range(6):
        trainer.round()
    trainer.log()
    (row,) = [r for r in run.stats() if "finding" not in r and not any(k.startswith("sign/") for k in r)]
    assert (row["bad_steps"], row["round"], row["examples"]) == (2, 6, 96)


@pytest.mark.parametrize("waits", [True, False])
def test_endless_bad_gradients_end_the_run_with_advice(waits):
    """Of one player only: the other's good steps do not hide them."""
    trainer = trainer_of(Broken(bad=range(1000)), examples=16_000)
    trainer.waits = waits
    with pytest.raises(RunError) as caught:
        trainer.fit()
    message = str(caught.value)
    assert "\n" not in message
    assert "decoder" in message
    assert "--lr" in message
    assert "--clip" in message
    assert trainer.bad_steps == BAD_LIMIT
    if waits:
        assert trainer.clocks[0].round == BAD_LIMIT - 1


@pytest.mark.parametrize(("model", "lr"), [("vae", 3e38), ("autoencoder", 1e37)])
def test_weights_blown_up_are_no_result(tmp_path, model, lr):
    """Too few rounds to reach the limit of bad steps; still the run must not end as if all were well."""
    with pytest.raises(RunError, match="--lr") as caught:
        lf.fit(model, blobs(40, SHAPE), examples=64, batch_size=16, lr=lr, optimizer="sgd", quiet=True,
               model_options={"net": "mlp", "hidden": (4,)}, out=tmp_path / "run")  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "model").exists()


# ---- parts, players, graphs ------------------------------------------------------------------------------------------


class Noisy(Tiny):
    """Draws noise twice a round, and logs it."""

    def play(self, data, t):
        x = next(data).image.flatten(1)
        noisy = x + t.randn(len(x), 64) + t.rand(len(x), 1)
        loss = (self.decoder(self.encoder(noisy)) - x).square().sum(1).mean()
        t.log("noisy", noisy)
        yield {"encoder": loss, "decoder": loss}

    def settle(self, t):
        self.seen = dict(t.means)


def test_parts_see_the_noise_and_the_images_of_the_whole():
    ends = []
    for accumulate in (1, 2, 4):
        game = Noisy()
        trainer = trainer_of(game, accumulate=accumulate, optimizer="sgd", lr=1e-3)
        seen = []
        for _ in range(10):
            trainer.round()
            seen.append(float(game.seen["noisy"]))
        ends.append((copies(game.parameters()), seen))
    for parameters, seen in ends[1:]:
        assert seen == pytest.approx(ends[0][1], rel=1e-5)
        for a, b in zip(parameters, ends[0][0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class Moody(Tiny):
    def play(self, data, t):
        x = next(data).image.flatten(1)
        loss = (self.decoder(self.encoder(x)) - x).square().mean()
        yield {"encoder" if t.part else "decoder": loss}


def test_parts_that_make_different_moves_are_an_error():
    with pytest.raises(RunError, match="different moves; play\\(\\) must yield the same players"):
        trainer_of(Moody(), accumulate=2).round()
    trainer_of(Moody()).round()


class Shared(Tiny):
    """Both players own the encoder."""

    def players(self):
        return {"first": [self.encoder, self.decoder], "second": [self.encoder]}

    def play(self, data, t):
        x = next(data).image.flatten(1)
        code = self.encoder(x)
        yield {"first": (self.decoder(code) - x).square().mean(), "second": code.square().mean()}


def test_a_parameter_of_two_players_must_be_declared():
    with pytest.raises(RunError, match=r"encoder\.weight belongs to both first and second"):
        trainer_of(Shared())


def test_a_declared_one_is_moved_by_both():
    class Declared(Shared):
        shared = {"encoder"}  # noqa: RUF012

    def after(names):
        game = Declared()
        trainer = trainer_of(game, optimizer="sgd", lr=0.1)
        trainer.clocks[0].start_round()
        trainer.plays = [game.play(trainer.streams[0], trainer.clocks[0])]
        gradients = trainer.next_move()
        for name in names:
            trainer.step(name, gradients[name])
        return game.encoder.weight.detach().clone()

    start, one, other, both = after([]), after(["first"]), after(["second"]), after(["first", "second"])
    torch.testing.assert_close(both - start, (one - start) + (other - start), rtol=1e-4, atol=1e-7)
    assert not torch.equal(one, start)
    assert not torch.equal(other, start)


def test_a_parameter_of_nobody_is_an_error():
    class Lost(Tiny):
        def players(self):
            return {"encoder": [self.encoder]}

    with pytest.raises(RunError, match=r"no player owns decoder\.weight, decoder\.bias; add its module to players\(\)"):
        trainer_of(Lost())


def test_who_stops_a_run_is_told_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(StopSignal, "asked", True)
    with pytest.raises(Interrupted, match="stopped at round 1, not kept"):
        trainer_of(Tiny()).fit()
    small = {"net": "mlp", "hidden": (4,), "latent_dim": 2}
    images = blobs(60, (1, 8, 8))[0][:, 0]
    with pytest.raises(Interrupted, match=r"continue with 'lf\.resume\(.*, data=YOUR_ARRAYS\)'"):
        lf.fit("vae", images, out=tmp_path / "run", model_options=small, examples=64, batch_size=16, quiet=True)


def test_handlers_that_cannot_be_given_back_are_left_alone(monkeypatch):
    """As of a program that runs this Python: its handler shows as None."""
    known = signal.getsignal
    before = known(signal.SIGINT)
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with StopSignal(), passed_on(signal.SIGINT, None):
        assert known(signal.SIGINT) is before


def test_intels_runtime_is_told_to_leave_ctrl_c_alone(monkeypatch):
    name = "FOR_DISABLE_CONSOLE_CTRL_HANDLER"
    monkeypatch.setenv(name, "0")
    keep_ctrl_c(True)
    assert os.environ[name] == "0"  # the user's word
    monkeypatch.delenv(name)
    keep_ctrl_c(False)
    assert name not in os.environ
    keep_ctrl_c(True)
    assert os.environ[name] == "1"


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_a_graph_used_across_a_step_is_an_error(optimizer):
    """With stale weights in the graph its gradient would be silently wrong: fused optimisers do not tell autograd."""

    class Stale(Tiny):
        def play(self, data, t):
            x = next(data).image.flatten(1)
            now, later = self.decoder(self.encoder(x)), self.decoder(self.encoder(x))
            yield {"decoder": (now - x).square().mean()}
            yield {"encoder": (later - x).square().mean()}

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        trainer_of(Stale(), optimizer=optimizer).round()


def test_a_move_sees_the_weights_of_the_moves_before():
    class InTurn(Tiny):
        def play(self, data, t):
            x = next(data).image.flatten(1)
            before = self.decoder.bias.detach().clone()
            yield {"decoder": (self.decoder(self.encoder(x)) - x).square().mean()}
            self.changed = not torch.equal(before, self.decoder.bias)
            yield {"encoder": (self.decoder(self.encoder(x)) - x).square().mean()}

    game = InTurn()
    trainer_of(game).round()
    assert game.changed


# ---- optimisers --------------------------------------------------------------------------------------------------------

PLAIN = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=1e-3, foreach=False),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=1e-3, momentum=0.9, foreach=False),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, lr=1e-3, foreach=False),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=1e-3, alpha=0.9, foreach=False),
    "adam": lambda ps: torch.optim.Adam(ps, lr=1e-3, foreach=False),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=1e-3, weight_decay=0.0, foreach=False),
}


@pytest.mark.parametrize("optimizer", PLAIN)
def test_every_optimizer_trains_channels_last_like_the_plain_one(optimizer):
    """A convolutional model, which the trainer lays out channels_last and steps with fused kernels, against a
    contiguous twin with the plain optimiser; in the middle the state goes through a checkpoint."""

    def build():
        torch.manual_seed(1)
        return lf.create("autoencoder", image_shape=(3, 12, 12), latent_dim=3, width=6)

    data = tiny_data((3, 12, 12))
    model, twin = build(), build()
    trainer = Trainer(model, data, examples=96, batch_size=16, ema=0, lr=1e-3, optimizer=optimizer, quiet=True)
    plain = PLAIN[optimizer](list(twin.parameters()))
    stream, t = Stream(data.train, 16), Clock()
    for number in range(6):
        trainer.round()
        t.start_round()
        (move,) = list(twin.play(stream, t))
        plain.zero_grad()
        move["autoencoder"].backward()
        plain.step()
        t.round += 1
        if number == 2:
            tensors, scalars = pack(trainer.optimizers)
            fresh = {k: make_optimizer(s, trainer.parameters[k]) for k, s in trainer.seats.items()}
            unpack(fresh, {k: v.contiguous().clone() for k, v in tensors.items()}, scalars)
            trainer.optimizers = fresh
    assert any(p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in model.parameters())
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}")
    start = build()
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True))


def test_laid_out_like():
    parameter = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    value = torch.randn(4, 3, 2, 2, dtype=torch.bfloat16)
    out = laid_out_like(parameter, value)
    assert out.stride() == parameter.stride() != value.stride()
    assert out.dtype == value.dtype
    assert torch.equal(out, value)
    assert laid_out_like(parameter, out) is out


# ---- precision, randomness, budget -------------------------------------------------------------------------------------


class Watched(Tiny):
    """Notes whether autocast is on, and what the first layer gives."""

    def play(self, data, t):
        x = next(data).image.flatten(1)
        code = self.encoder(x)
        self.inside = [torch.is_autocast_enabled("cpu"), code.dtype]
        yield {"encoder": (self.decoder(code) - x).float().square().mean()}
        self.inside.append(torch.is_autocast_enabled("cpu"))
        yield {"decoder": (self.decoder(self.encoder(x)) - x).float().square().mean()}

    def settle(self, t):
        self.outside = torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("precision", "on", "dtype"), [("bf16", True, torch.bfloat16), ("fp32", False, torch.float32)])
def test_precision(precision, on, dtype):
    game = Watched()
    trainer = trainer_of(game, precision=precision)
    trainer.step = lambda *a, step=trainer.step: (  # type: ignore[method-assign]
        step(*a) if not torch.is_autocast_enabled("cpu") else pytest.fail("autocast is open across a step")
    )
    trainer.round()
    assert game.inside == [on, dtype, on]
    assert not game.outside
    assert all(p.dtype == torch.float32 for p in game.parameters())


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", None])
def test_auto_is_half_precision_where_it_pays(flag, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {flag: True, "avx2": True})
    assert trainer_of(Watched()).precision == "fp32"
    critical = Watched()
    critical.half_pays = True
    assert trainer_of(critical).precision == ("bf16" if flag else "fp32")
    assert trainer_of(critical, precision="fp32").precision == "fp32"


@pytest.mark.parametrize("name", ["autoencoder", "gan"])
def test_global_randomness_is_left_alone(name, tmp_path):
    import_module("sklearn.mixture")  # importing it draws from `random`
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    lf.fit(name, blobs(40, SHAPE), examples=32, batch_size=16, quiet=True, out=tmp_path / "run")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_global_randomness_does_not_matter():
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = lf.fit("vae", blobs(40, SHAPE), examples=32, batch_size=16, quiet=True, seed=7)
        ends.append(copies(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_minutes_include_the_sampler(tmp_path):
    images, _ = blobs(1500, SHAPE)
    lf.fit("autoencoder", images, minutes=0.05, batch_size=32, quiet=True, out=tmp_path / "run",
           model_options={"net": "mlp", "hidden": (8,), "latent_dim": 4})  # fmt: skip
    assert lf.load(tmp_path / "run").sampler is not None
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]
    assert 2.4 < told["training_seconds"] < 5  # 2.7, and what a busy machine adds
    assert told["training_seconds"] + told["finish_seconds"] < 10
    last = Run.open(tmp_path / "run").stats()[-1]
    assert 0.8 < last["progress"] <= 1


def test_epochs_and_examples_are_exact():
    data = tiny_data(SHAPE)  # 48 training images
    for options, rounds in (({"epochs": 1.5}, 5), ({"examples": 65}, 5), ({"epochs": 1}, 3)):
        trainer = Trainer(Tiny(), data, batch_size=16, quiet=True, **options)
        trainer.fit()
        assert trainer.clocks[0].round == rounds


def test_a_batch_larger_than_the_data():
    trainer = Trainer(Tiny(), tiny_data(SHAPE), epochs=5, batch_size=100, quiet=True)
    trainer.fit()
    assert trainer.clocks[0].examples == 300


def test_every_epoch_shows_each_image_once_in_an_order_of_its_own():
    data = tiny_data(SHAPE).train  # 48

    def epochs(seed: int, size: int) -> list[list[int]]:
        stream = Stream(data, size, seed)
        drawn = torch.cat([next(stream).index for _ in range(144 // size)])
        return [epoch.tolist() for epoch in drawn.split(48)]

    first, other = epochs(0, 16), epochs(1, 16)
    assert all(sorted(order) == list(range(48)) for order in first + other)
    assert epochs(0, 36) == first  # of batches that run over the end of an epoch
    assert len({tuple(order) for order in first + other}) == 6


def test_in_a_thread():
    """Signals can be heard in the main thread only; training elsewhere goes without."""
    done: list[Game] = []
    thread = threading.Thread(target=lambda: done.append(trainer_of(Tiny()).fit()))
    thread.start()
    thread.join(60)
    assert done


def test_a_second_signal_ends_at_once_and_handlers_are_put_back():
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals are heard in the main thread")
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    assert not StopSignal().asked


# ---- what a run tells ----------------------------------------------------------------------------------------------


def test_previews_at_every_tenth_are_of_fixed_codes(tmp_path):
    lf.fit("vae", blobs(40, SHAPE), examples=1600, batch_size=16, quiet=True, lr=1e-12, out=tmp_path / "run",
           model_options={"net": "mlp", "hidden": (4,)})  # fmt: skip
    for kind in ("samples", "reconstructions"):
        files = sorted((tmp_path / "run" / "previews").glob(f"{kind}-*.png"))
        rounds = [int(f.stem.split("-")[1]) for f in files]
        assert rounds == list(range(0, 101, 10))
        pixels = [np.asarray(Image.open(f)) for f in files]
        assert pixels[0].std() > 5
        assert all(np.abs(p.astype(int) - pixels[0]).max() <= 1 for p in pixels)  # the weights hardly moved
    grid = np.asarray(Image.open(sorted((tmp_path / "run" / "previews").glob("samples-*"))[0]))
    assert grid.shape == (8 * 10 + 2, 8 * 10 + 2)
    assert len(np.unique(grid.reshape(82, 82)[3:10, 3::10], axis=1)) > 1


def test_statistics(tmp_path):
    lf.fit("larsen-vae-gan", blobs(100, SHAPE), examples=640, batch_size=16, quiet=True, out=tmp_path / "run",
           model_options={"net": "mlp", "hidden": (4,)})  # fmt: skip
    rows = Run.open(tmp_path / "run").stats()
    train = [r for r in rows if "kl_nats" in r]
    measured = [r for r in rows if "validation/kl_nats" in r]
    assert len(train) == 40
    assert [r["round"] for r in measured] == list(range(0, 41, 4))
    for row in train:
        assert row.keys() >= {
            "round",
            "examples",
            "epoch",
            "progress",
            "seconds",
            "bad_steps",
            "likeness",
            "critic_real",
        }
        assert row["examples"] == 16 * row["round"]
        assert row["epoch"] == pytest.approx(row["examples"] / 80, abs=1e-4)
        assert row["progress"] == pytest.approx(row["examples"] / 640, abs=1e-5)
        assert row["bad_steps"] == 0
    seconds = [r["seconds"] for r in rows]
    assert seconds == sorted(seconds)


class Counting(Tiny):
    """Logs the number of the round."""

    def play(self, data, t):
        x = next(data).image.flatten(1)
        t.log("number", float(t.round))
        yield {"decoder": (self.decoder(self.encoder(x)) - x).square().mean()}


def test_the_clock_says_when_to_log_and_when_to_save(tmp_path):
    """A row a second and a checkpoint a minute, where neither the budget nor the checkpoints are in images."""
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    trainer = trainer_of(Counting(), examples=None, minutes=9, run=run)
    trainer.journal.open(run, False, trainer.model, "fp32", None, 9)
    trainer.started, trainer.base_seconds, trainer.saved_examples = time.monotonic(), 0.0, 0
    found = []
    for logged, saved in ((0, 0), (2, 0), (0, 61), (0, 0)):  # seconds ago
        trainer.round()
        trainer.logged_at, trainer.saved_at = time.monotonic() - logged, time.monotonic() - saved
        trainer.after_round()
        rows = [r for r in run.stats() if "number" in r]
        found.append((len(rows), len(list((run.path / "checkpoints").glob("round-*")))))
    assert found == [(0, 0), (1, 0), (1, 1), (1, 1)]


def test_rows_are_means_since_the_row_before(tmp_path):
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    trainer = trainer_of(Counting(), examples=6400)  # a row at every 32 images
    trainer.journal.open(run, False, trainer.model, "fp32", 64, None)
    trainer.started = trainer.base_seconds = trainer.logged_at = trainer.saved_at = time.monotonic()
    trainer.saved_examples = 0
    for _ in range(100):
        trainer.round()
        trainer.after_round()
    before = 0
    for row in (r for r in run.stats() if "number" in r):
        assert row["number"] == pytest.approx(sum(range(before, row["round"])) / (row["round"] - before))
        before = row["round"]
    assert before == 100


def test_a_long_run_has_a_row_a_minute_and_no_row_a_second(tmp_path):
    """It is looked at by people and by the doctor, who reads all rows."""
    minutes = [trainer_of(Tiny(), examples=None, minutes=m).row_pause for m in (5, 60, 600, 10_080)]
    assert minutes == [1, 1, 10, 60]
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    trainer = trainer_of(Counting(), examples=6_400_000)
    trainer.journal.open(run, False, trainer.model, "fp32", 6_400_000, None)
    trainer.started = trainer.base_seconds = trainer.saved_at = time.monotonic()
    trainer.logged_at, trainer.saved_examples = trainer.started - 61, 0
    for _ in range(3):
        trainer.round()
        trainer.after_round()
    assert [row["round"] for row in run.stats() if "number" in row] == [1]


def test_checkpoints_that_take_long_are_rare(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    trainer, now, saved = trainer_of(Tiny(), run=run), [0.0], []

    def slow(*given):
        saved.append(now[0])
        now[0] += 10

    monkeypatch.setattr(run, "save_checkpoint", slow)
    monkeypatch.setattr("latentforge.train.time", SimpleNamespace(monotonic=lambda: now[0]))
    trainer.started = trainer.base_seconds = trainer.saved_at = trainer.logged_at = 0.0
    trainer.saved_examples, trainer.row_pause = 0, math.inf
    for _ in range(300):  # a second each
        now[0] += 1
        trainer.round()
        trainer.after_round()
    assert saved == [61, 272]  # ten seconds of every 210


def test_statistics_are_json_where_a_number_is_not_finite(tmp_path):
    """And a run with such a row goes on."""
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    row = {"round": 1, "examples": 16, "progress": 0.25, "seconds": 1.0, "bad_steps": 0}
    for value in (math.nan, 0.5):
        journal = Journal(quiet=True)
        journal.open(run, False, Tiny(), "fp32", 64, None)
        journal.write(row | {"loss": value, "critic_real": value, "critic_fake": 1.0, "sign/diversity": value})

    def refuse(word):
        raise ValueError(word)

    lines = (run.path / "stats.jsonl").read_text().splitlines()
    first, last = (json.loads(line, parse_constant=refuse) for line in lines)
    assert (first["loss"], last["loss"]) == (None, 0.5)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lf.fit("vae", blobs(40, SHAPE), examples=320, batch_size=16, quiet=True, tensorboard=True, out=tmp_path / "run",
           model_options={"net": "mlp", "hidden": (4,)})  # fmt: skip
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"loss", "kl_nats", "validation/reconstruction_mse"} <= set(events.Tags()["scalars"])
    rows = [r for r in Run.open(tmp_path / "run").stats() if "loss" in r]
    points = events.Scalars("loss")
    assert [p.step for p in points] == [r["examples"] for r in rows]
    assert [p.value for p in points] == pytest.approx([r["loss"] for r in rows])
    lf.fit("vae", blobs(40, SHAPE), examples=16, batch_size=16, quiet=True, out=tmp_path / "without",
           model_options={"net": "mlp", "hidden": (4,)})  # fmt: skip
    assert not (tmp_path / "without" / "tensorboard").exists()


# ---- the Python face -----------------------------------------------------------------------------------------------

QUICK = {"examples": 32, "batch_size": 16, "quiet": True, "model_options": {"net": "mlp", "hidden": (4,)}}


def test_fit_on_arrays_tensors_and_pairs():
    images, labels = blobs(40, SHAPE)
    unit = images.astype(np.float32) / 255
    ends = [
        copies(lf.fit("vae", data, **QUICK).parameters())
        for data in (images, unit, torch.from_numpy(unit), images.transpose(0, 2, 3, 1), (images, labels))
    ]
    for end in ends[1:]:
        for a, b in zip(end, ends[0], strict=True):
            torch.testing.assert_close(a, b)


def test_fit_a_model_of_ones_own():
    game = Tiny()
    start = copies(game.parameters())
    out = lf.fit(game, tiny_data(SHAPE), examples=160, batch_size=16, quiet=True)
    assert out is game
    assert not out.training
    assert all(not torch.equal(a, b) for a, b in zip(start, game.parameters(), strict=True))


def test_a_model_that_could_not_be_loaded_again_gets_no_run(tmp_path):
    with pytest.raises(InputError, match="Tiny"):
        lf.fit(Tiny(), tiny_data(SHAPE), examples=16, batch_size=16, quiet=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_derived_from_one_of_ours_is_not_taken_for_it(tmp_path):
    class Mine(model_class("vae")):
        pass

    mine = Mine(image_shape=SHAPE, net="mlp", hidden=(4,))
    refused(lambda: lf.fit(mine, tiny_data(SHAPE), examples=16, out=tmp_path / "run", quiet=True), "Mine has no name")
    refused(lambda: mine.save_pretrained(tmp_path / "model"), "Mine has no name")
    refused(lambda: Tiny().save_pretrained(tmp_path / "model"), "Tiny has no name")
    assert list(tmp_path.iterdir()) == []


def put_in_table(monkeypatch, name: str, cls):
    """A class of one's own under a name in the table, as if it stood in a module of its own."""
    monkeypatch.setattr(import_module("latentforge.models.vae"), cls.__name__, register(name)(cls), raising=False)
    monkeypatch.setitem(MODELS, name, Entry("latentforge.models.vae", cls.__name__, "vae", "Ours.", "no paper"))
    return cls


def test_a_model_that_would_not_be_built_again_alike_is_not_kept(tmp_path, monkeypatch):
    vae, small = model_class("vae"), {"image_shape": SHAPE, "hidden": (4,)}

    class Fixed(vae):
        def __init__(self, image_shape: tuple[int, int, int], **options):
            super().__init__(image_shape, net="mlp", **options)

    class Given(vae):
        def __init__(self, image_shape: tuple[int, int, int], body: nn.Module, **options):
            super().__init__(image_shape, **options)
            self.encoder = body

    put_in_table(monkeypatch, "fixed", Fixed)
    put_in_table(monkeypatch, "given", Given)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 40))
    others = [lf.create("vae", net="mlp", **small) for _ in range(3)]
    others[0].encoder = body
    others[1].encoder.layers[1] = nn.GELU()  # the same weights would fit
    others[2].beta = 4.0
    gan = lf.create("gan", image_shape=SHAPE, hidden=(4,), critic_hidden=(4,))
    gan.noise = "normal"
    cases = [
        (others[0], "the networks of this VAE"), (others[1], "the networks of this VAE"), (others[2], "beta=4.0"),
        (gan, 'noise="normal"'), (Fixed(**small), "multiple values"),
        (Given(body=body, net="mlp", **small), "argument body is a Sequential"),
    ]  # fmt: skip
    for model, words in cases:
        refused(lambda m=model: lf.fit(m, tiny_data(SHAPE), examples=16, out=tmp_path / "run", quiet=True), words)
        refused(lambda m=model: m.save_pretrained(tmp_path / "model"), words)
    assert list(tmp_path.iterdir()) == []
    lf.fit(others[0], tiny_data(SHAPE), examples=16, quiet=True)  # nothing is kept of it


def test_what_a_class_of_ones_own_adds_is_held_against_its_type_alone(tmp_path, monkeypatch):
    class Mine(model_class("vae")):
        def __init__(self, image_shape: tuple[int, int, int], tau: float = -0.5, depth: int = None,  # noqa: RUF013
                     more: tuple[int, ...] = (), **options):  # fmt: skip
            super().__init__(image_shape, **options)

    put_in_table(monkeypatch, "mine", Mine)
    images, _ = blobs(40, SHAPE)
    lf.fit("mine", images, **QUICK, out=tmp_path / "run")
    lf.resume(tmp_path / "run", images, examples=64, quiet=True)
    args = lf.load(tmp_path / "run").args
    assert (args["tau"], args["depth"], args["more"]) == (-0.5, None, ())
    refused(lambda: lf.create("mine", image_shape=SHAPE, tau="wide"), "--tau wide: give a number")
    refused(lambda: lf.create("mine", image_shape=SHAPE, beta=-1.0), "--beta -1.0: give 0 or more")


def test_a_model_of_ones_own_in_the_table_is_trained_kept_and_taken_up(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(
        "from latentforge.models.vae import VAE\n"
        "from latentforge.registry import register\n"
        "@register('mine')\n"
        "class Mine(VAE):\n"
        "    'A VAE by another name.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(MODELS, "mine", Entry("own_models", "Mine", "vae", "Ours.", "no paper"))
    images, _ = blobs(40, SHAPE)
    model = lf.fit("mine", images, **QUICK, out=tmp_path / "run")
    assert type(lf.load(tmp_path / "run")) is type(model)
    assert type(lf.resume(tmp_path / "run", images, examples=64, quiet=True)) is type(model)
    model.save_pretrained(tmp_path / "alone")
    assert type(lf.load(tmp_path / "alone")) is type(model)


def test_a_class_that_registers_itself_is_a_model_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "MODELS", dict(MODELS))

    def define():
        @lf.register("mine", "vae")
        class Mine(model_class("vae")):
            """A VAE by another name."""

        return Mine

    first, (images, _) = define(), blobs(40, SHAPE)
    model = lf.fit("mine", images, **QUICK, out=tmp_path / "run")
    assert type(lf.resume(tmp_path / "run", images, examples=64, quiet=True)) is type(model) is first
    assert "\nA VAE by another name.\n" in (tmp_path / "run" / "model" / "README.md").read_text()
    second = define()  # as a cell of a notebook does that is run once more
    assert type(lf.load(tmp_path / "run")) is second
    refused(lambda: model.save_pretrained(tmp_path / "alone"), "Mine was defined again")
    del registry.MODELS["mine"]  # as in another program
    for call in (lambda: lf.load(tmp_path / "run"), lambda: lf.resume(tmp_path / "run", images, examples=96)):
        refused(call, "define.<locals>.Mine; in Python, import or define that")
    shutil.rmtree(tmp_path / "run" / "model")
    refused(lambda: lf.load(tmp_path / "run"), str(tmp_path / "run"), "import or define")
    refused(lambda: lf.register("vae", "vae"), "give yours another name")
    refused(lambda: lf.register("mine", "hybird"), "Did you mean 'hybrid'")


def test_a_training_is_watched_and_ended_from_outside():
    model, seen = lf.create("vae", image_shape=SHAPE, net="mlp", hidden=(4,)), []

    def settle(t):
        seen.append(float(t.means["loss"]))
        model.converged = len(seen) % 3 == 0

    model.settle = settle
    for rounds in (3, 6):  # what ended the first does not end the second at its start
        lf.fit(model, tiny_data(SHAPE), examples=160, batch_size=16, quiet=True)
        assert len(seen) == rounds


def test_a_given_model_that_dies_before_its_first_checkpoint_is_not_begun_anew(tmp_path, monkeypatch):
    """Its weights are in no seed: they stand in a checkpoint of round 0."""
    images, _ = blobs(40, SHAPE)
    known = lf.fit("vae", images, **QUICK | {"examples": 320})
    before = copies(known.parameters())

    def dies(trainer):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "round", dies)
        with pytest.raises(KeyboardInterrupt):
            lf.fit(known, images, examples=32, batch_size=16, quiet=True, out=tmp_path / "run")
    patch = Trainer.round
    seen = []
    monkeypatch.setattr(Trainer, "round", lambda self: (seen.append(copies(self.model.parameters())), patch(self))[1])
    lf.resume(tmp_path / "run", images, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], before, strict=True))


def test_a_place_under_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, **QUICK, out="~/run")
    lf.load("~/run").save_pretrained("~/alone")
    lf.load("~/alone")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone", "run"]
    refused(lambda: lf.fit("vae", images, **QUICK, out="~/run"), "already exists")


def test_the_name_of_a_preset_is_no_setting(tmp_path):
    """It would name the run without setting anything."""
    images, _ = blobs(40, SHAPE)
    refused(lambda: lf.fit("vae", images, **QUICK, out=tmp_path / "run", preset="mnist/vae"), "no setting 'preset'")
    assert not (tmp_path / "run").exists()


def test_a_model_goes_to_the_hub_and_back(tmp_path, monkeypatch):
    class Hub:
        def create_repo(self, repo_id, exist_ok):
            assert exist_ok

        def upload_folder(self, *, repo_id, folder_path):
            shutil.copytree(folder_path, tmp_path / "kept")
            return f"https://hub/{repo_id}"

    def fetched(repo_id, allow_patterns):
        if repo_id != "me/digits":
            raise OSError("404")
        return str(tmp_path / "kept")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    model = lf.create("vae", image_shape=SHAPE, net="mlp", hidden=(4,)).eval()
    assert model.push_to_hub("me/digits") == "https://hub/me/digits"
    assert 'lf.Game.from_pretrained("me/digits")' in (tmp_path / "kept" / "README.md").read_text(encoding="utf-8")
    assert torch.equal(lf.Game.from_pretrained("me/digits").sample(3, seed=1), model.sample(3, seed=1))
    refused(lambda: model_class("gan").from_pretrained("me/digits"), "holds a vae", "lf.load")
    refused(lambda: lf.Game.from_pretrained("me/other"), "me/other", "neither a directory here nor a hub repository")


def test_a_buffer_may_be_infinite_on_purpose():
    game = Tiny()
    game.register_buffer("best", torch.tensor(torch.inf))
    lf.fit(game, tiny_data(SHAPE), examples=16, batch_size=16, quiet=True)


def test_a_config_of_more_than_its_weights_is_refused_before_it_takes_memory(tmp_path):
    lf.create("vae", image_shape=SHAPE, net="mlp", hidden=(4,)).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    config["arguments"]["hidden"] = [4000]
    file.write_text(json.dumps(config))
    refused(lambda: lf.load(tmp_path / "model"), tmp_path / "model", "a layer of 256,000 numbers, and the weights have")
    lf.create("vae", image_shape=SHAPE, net="mlp", hidden=(4000,))


def test_of_a_repository_a_model_alone_is_fetched(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **how: asked.append(how) or str(tmp_path))
    refused(lambda: Game.from_pretrained("someone/else"), "'someone/else' on the hub", "is not a saved model")
    assert asked == [{"allow_patterns": ["config.json", "model.safetensors"]}]


def test_tied_weights_are_kept(tmp_path):
    tensors = {"a": torch.ones(3), "b": torch.zeros(2, 3).T, "c": torch.zeros(0)}
    tensors |= {"tied": tensors["a"], "empty": tensors["c"]}
    save_file(apart(tensors), tmp_path / "x.safetensors")
    again = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(again[k], v) for k, v in tensors.items())


def test_a_player_without_a_free_weight_is_told():
    model = lf.create("larsen-vae-gan", image_shape=SHAPE, net="mlp", hidden=(4,))
    model.encoder.requires_grad_(False)
    refused(lambda: lf.fit(model, tiny_data(SHAPE), examples=16, quiet=True), "encoder are fixed")


def test_momentum_has_some_where_the_familys_adam_has_none():
    seats = lf.create("r3gan", image_shape=(1, 8, 8), width=4).seats()
    assert seats["critic"].betas[0] == 0
    assert seat_with(seats["critic"], "critic", None, "momentum", None, None, None).betas[0] == MOMENTUM
    assert seat_with(Seat(), "critic", None, "momentum", None, None, None).betas[0] == Seat().betas[0]


def test_names_that_are_none_are_told():
    class Odd(Tiny):
        def seats(self):
            return {"encoder": Seat(optimizer="lion"), "decoder": Seat()}

    class Half(Tiny):
        def seats(self):
            return {"encoder": Seat()}

    class Typo(Tiny):
        def play(self, data, t):
            yield {"encodr": self.encoder(next(data).image.flatten(1)).square().mean()}

    game = Tiny()
    game.schedule = "exponential"
    refused(lambda: trainer_of(game), "no schedule 'exponential'")
    refused(lambda: trainer_of(Odd()), "no optimiser 'lion'")
    refused(lambda: trainer_of(Half()), "'decoder' is in players() and not in seats()")
    refused(lambda: trainer_of(Typo()).round(), "'encodr'", "Did you mean 'encoder'")


def test_gradients_come_in_the_order_of_the_move():
    """Also where players with one loss stand apart; parts are compared by it."""
    a, b, c = (nn.Parameter(torch.ones(1)) for _ in range(3))
    loss, other = (a * c).sum(), (2 * b).sum()
    found = gradients_of({"a": loss, "b": other, "c": loss}, {"a": [a], "b": [b], "c": [c]}, 0.5)
    assert [(k, float(g)) for k, (g,) in found.items()] == [("a", 0.5), ("b", 1.0), ("c", 0.5)]


def test_a_state_with_a_sampler_is_not_taken_without_it():
    model = lf.fit("vae", tiny_data(SHAPE), **QUICK, sampler="gmm")
    twin = lf.create("vae", image_shape=SHAPE, net="mlp", hidden=(4,))
    for strict in (True, False):
        refused(lambda s=strict: twin.load_state_dict(model.state_dict(), strict=s), "fitted sampler", "lf.load")
    model.sampler = None
    twin.load_state_dict(model.state_dict())


def test_loading_and_creating_leave_the_callers_random_numbers_and_errors(tmp_path):
    lf.fit("vae", tiny_data(SHAPE), **QUICK, out=tmp_path / "run")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    lf.load(tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)
    refused(lambda: lf.create("cvae", image_shape=SHAPE), "num_classes")
    refused(lambda: lf.create("ssl-gan", image_shape=SHAPE, num_classes=1), "num_classes")


def test_the_trainer_looks_at_its_options_itself():
    data = tiny_data(SHAPE)
    refused(lambda: Trainer(Tiny(), data, optimizer="lion", quiet=True), "--optimizer lion")
    refused(lambda: Trainer(Tiny(), data, batch_size=0, quiet=True), "--batch-size 0: give 1 or more")
    trainer = Trainer(Tiny(), data, examples=16, batch_size=16, device=torch.device("cpu"), quiet=True)
    assert trainer.device.type == "cpu"


def test_signs_of_a_collapse_need_a_place():
    refused(lambda: lf.fit("gan", tiny_data(SHAPE), examples=16, on_collapse="restart", quiet=True), "give out as well")


def test_numpy_numbers_as_a_new_budget_cost_no_model(tmp_path):
    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, **QUICK, out=tmp_path / "run")
    lf.resume(tmp_path / "run", images, examples=np.int64(64), quiet=True)
    assert Run.open(tmp_path / "run").config["train"]["examples"] == 64
    assert type(budget(40, None, None, np.float32(0.5))[1]) is float


def test_only_the_first_process_warns(capsys):
    Display(quiet=True).warn("seen")
    Display(quiet=True, silent=True).warn("unseen")
    assert capsys.readouterr().err == "warning: seen\n"


def test_fit_says_what_does_not_fit(tmp_path):
    data = tiny_data(SHAPE)
    with pytest.raises(InputError, match="Did you mean 'batch_size'"):
        lf.fit("vae", data, batchsize=3)
    with pytest.raises(InputError, match=r"\(1, 9, 9\).*\(1, 8, 8\)"):
        lf.fit(lf.create("vae", image_shape=(1, 9, 9)), data)
    with pytest.raises(InputError, match="image_size"):
        lf.fit("vae", data, model_options={"image_shape": (1, 8, 8)})
    with pytest.raises(InputError, match="latent_dim"):
        lf.fit("vae", data, model_options={"latentdim": 3})
    with pytest.raises(InputError, match=r"--batch-size 8\.5"):
        lf.fit("vae", data, batch_size=8.5)
    with pytest.raises(InputError, match="--schedule cosin"):
        lf.fit("vae", data, schedule="cosin")
    with pytest.raises(InputError, match="--tensorboard yes"):
        lf.fit("vae", data, tensorboard="yes")
    with pytest.raises(InputError, match="built already"):
        lf.fit(Tiny(), data, model_options={"latent_dim": 3})
    refused(lambda: lf.fit("vae", data, image_size=64), "data_options={'image_size': ...}")
    refused(lambda: lf.fit("vae", data, kl_warmup=10), "model_options={'kl_warmup': ...}")
    refused(lambda: lf.fit(lf.create("vae", image_shape=SHAPE), data, beta=4.0), "built already")
    assert "quiet" not in refused(lambda: lf.fit("vae", data, zzz=1), "no setting 'zzz'", "minutes")
    refused(lambda: lf.open_data(data.train.pixels, labels=data.train.labels), "(images, labels)")


def test_resume_of_a_run_on_arrays(tmp_path):
    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, **QUICK, out=tmp_path / "run")
    with pytest.raises(InputError, match="memory"):
        lf.resume(tmp_path / "run", examples=64)
    with pytest.raises(InputError, match="not those"):
        lf.resume(tmp_path / "run", images[::-1].copy(), examples=64)
    with pytest.raises(InputError, match="batch_size"):
        lf.resume(tmp_path / "run", images, batch_size=8)
    model = lf.resume(tmp_path / "run", images, examples=64, quiet=True)
    once = lf.fit("vae", images, **QUICK | {"examples": 64})
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), once.parameters(), strict=True))


def test_a_finished_run_is_loaded_and_left_as_it_is(tmp_path):
    images, _ = blobs(40, SHAPE)
    model = lf.fit("vae", images, out=tmp_path / "run", **QUICK)
    run = Run.open(tmp_path / "run")
    assert run.keep_measures("test", [{"measure": "loss_nats", "value": 1.0}], run.model_stamp)
    before = run.metrics(), run.model_stamp
    again = lf.resume(run.path, quiet=True)
    assert (run.metrics(), run.model_stamp) == before
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_tidy_removes_what_a_killed_process_was_writing(tmp_path):
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    whole = [p for p in run.path.rglob("*") if p.is_file()]
    (run.path / ".model.7.part").mkdir()
    rests = ".model.7.part/x", ".stats.jsonl.7.part", "checkpoints/.latest.7.part", "checkpoints/.tmpIlarsZ"
    for rest in rests:
        (run.path / rest).touch()
    run.tidy(0)
    assert sorted(p for p in run.path.rglob("*") if p.is_file()) == sorted([*whole, run.path / "stats.jsonl"])
    assert not any(run.path.rglob(".*"))


def test_tidy_takes_pictures_of_rounds_to_be_played_again(tmp_path):
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    for name in ("samples-000000010.png", "samples-000000020.png", "reconstructions-000000020.png"):
        (run.path / "previews" / name).touch()
    run.tidy(10)
    assert [p.name for p in (run.path / "previews").iterdir()] == ["samples-000000010.png"]


def test_more_minutes_begin_where_they_are(tmp_path):
    """The share of the budget that is behind a run is that of the new total: previews and signs go on."""
    trainer = trainer_of(Tiny(), examples=None, minutes=1)
    trainer.started, trainer.base_seconds = time.monotonic(), 60.0
    trainer.where()
    tensors, state = state_of(trainer)
    assert state["progress"] == 1
    again = trainer_of(Tiny(), examples=None, minutes=4)
    take_up(again, tensors, state)
    assert again.clocks[0].progress == again.preview_progress == pytest.approx(0.25, abs=0.01)


def test_a_longer_run_has_no_numbers_of_the_model_before(tmp_path):
    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, out=tmp_path / "run", **QUICK)
    run = Run.open(tmp_path / "run")
    assert run.keep_measures("test", [{"measure": "loss_nats", "value": 1.0}], run.model_stamp)
    assert not run.keep_measures("test", [{"measure": "loss_nats", "value": 2.0}], 7)  # of another model
    assert run.metrics()["test"]["loss_nats"]["value"] == 1.0
    run.reopen({"examples": 64})
    assert set(run.metrics()) == {"training"}
    assert not run.finished
    assert not (run.path / "model").exists()


def test_a_damaged_checkpoint_counts_no_more(tmp_path, capsys):
    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, out=tmp_path / "run", checkpoint_every=16, **QUICK)
    folder = tmp_path / "run" / "checkpoints"
    (folder / "round-000000009.safetensors").write_bytes(b"cut short")
    lf.resume(tmp_path / "run", images, quiet=True, examples=64)
    assert "cannot be read" in capsys.readouterr().err
    assert sorted(p.name[6:15] for p in folder.glob("round-*")) == ["000000003", "000000004"]


def denied(*given, **how):
    raise PermissionError(13, "Permission denied")


def test_what_may_not_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, out=tmp_path / "run", **QUICK)
    run = Run.open(tmp_path / "run")
    before = sorted(run.path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", denied)
        refused(lambda: Run.open(run.path), "config.yaml cannot be read (Permission denied)")
        with pytest.raises(PermissionError):
            run.metrics()
    for module in ("run", "saving"):
        monkeypatch.setattr(f"latentforge.{module}.open", denied, raising=False)
    refused(lambda: lf.load(run.path), "cannot be read (Permission denied)")
    refused(lambda: lf.resume(run.path, images, examples=64, quiet=True), "round-000000002.safetensors cannot be read")
    assert sorted(run.path.rglob("*")) == before


def test_files_of_ones_own_in_a_run_stay(tmp_path):
    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, out=tmp_path / "run", checkpoint_every=16, **QUICK)
    run = Run.open(tmp_path / "run")
    mine = [run.path / "checkpoints" / f"round-{name}.safetensors" for name in ("000000001-good", "best")]
    for file in mine:
        shutil.copy(run.checkpoints()[0], file)
    for name in ("holiday-20240101", "compare-2024", "samples-\u00b2"):
        mine.append(run.path / "previews" / f"{name}.png")
        mine[-1].touch()
    assert run.load_checkpoint()[1]["round"] == 2
    lf.resume(run.path, images, examples=64, quiet=True)
    assert all(file.exists() for file in mine)


EMPTY = {"model": {}, "data": {}, "train": {}}


def test_a_run_begun_a_moment_ago_is_not_overwritten(tmp_path, monkeypatch):
    """The second process has looked before there was anything."""
    monkeypatch.setattr(Run, "need_free", lambda path: None)
    first = Run.create(tmp_path / "run", {**EMPTY, "train": {"seed": 1}})
    refused(lambda: Run.create(tmp_path / "run", EMPTY), "already exists; continue it with")
    assert yaml.safe_load((first.path / "config.yaml").read_text())["train"] == {"seed": 1}


def test_a_run_that_cannot_be_written_takes_only_itself_away(tmp_path, monkeypatch):
    def full(run):
        (run.path.parent / "other").mkdir()
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(Run, "make_folders", full)
    refused(lambda: Run.create(tmp_path / "deep" / "run", EMPTY), "Disk quota exceeded", "--out")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["other"]


def test_what_is_no_run_cannot_be_continued(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert "resume" not in refused(lambda: Run.create(tmp_path, EMPTY), "already exists")


def test_a_run_that_may_not_be_written_is_refused_with_advice(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", EMPTY)
    monkeypatch.setattr("latentforge.run.FileLock.acquire", denied)
    refused(lambda: run.held().__enter__(), "cannot be written (Permission denied)", "copy the run")


def test_a_model_that_is_a_link_goes_and_what_it_leads_to_stays(tmp_path):
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    (tmp_path / "disk").mkdir()
    for name in ("model", ".model.7.old"):
        (run.path / name).symlink_to(tmp_path / "disk")
    run.reopen({"examples": 64})
    run.tidy(0)
    assert not any(p.is_symlink() for p in run.path.iterdir())
    assert (tmp_path / "disk").is_dir()


def test_a_checkpoint_of_another_version_is_refused_in_one_line(tmp_path, monkeypatch):
    """A parameter has moved to another player."""
    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, out=tmp_path / "run", **QUICK)

    def moved(*given):
        raise IndexError("list index out of range")

    monkeypatch.setattr("latentforge.api.take_up", moved)
    refused(lambda: lf.resume(tmp_path / "run", images, examples=64, quiet=True), "does not fit", "config.yaml")


def test_a_board_that_cannot_be_written_costs_no_run(tmp_path, monkeypatch, capsys):
    class Board:
        def __init__(self, *where, **how):
            pass

        def add_scalar(self, *point):
            raise OSError(28, "No space left on device")

        close = add_scalar

    monkeypatch.setattr("latentforge.journal.summary_writer", lambda: Board)
    lf.fit("vae", blobs(40, SHAPE), out=tmp_path / "run", tensorboard=True, **QUICK)
    assert Run.open(tmp_path / "run").finished
    assert capsys.readouterr().err.count("TensorBoard not written") == 1


def test_a_board_needs_a_place():
    refused(lambda: lf.fit("vae", blobs(40, SHAPE)[0], tensorboard=True, **QUICK), "give out")


@pytest.mark.parametrize(("takes", "kept"), [(2**30, True), (2**25, True), (0, False)])
def test_an_allocator_that_refuses_keeps_what_it_can(takes, kept, monkeypatch):
    asked = []

    class Library:
        def __init__(self, name):
            pass

        def mallopt(self, option, value):
            asked.append((option, value))
            return int(option != allocator.M_MMAP_THRESHOLD or value <= takes)

        def malloc_trim(self, pad):
            return 1

    monkeypatch.setattr("ctypes.CDLL", Library)
    with allocator.keep_freed_memory() as found:
        assert found == kept
        assert [v for o, v in asked if o == allocator.M_MMAP_THRESHOLD][-1] == (takes or 2**25)
    assert (allocator.M_TRIM_THRESHOLD in dict(asked)) == kept  # else nothing is touched


def test_a_page_of_a_folder_whose_name_is_no_utf8(tmp_path):
    from latentforge.report.page import write_report

    images, _ = blobs(40, SHAPE)
    lf.fit("vae", images, out=tmp_path / "run", **QUICK)
    run = Run.open(tmp_path / "run")
    run.config["data"]["source"] = os.fsdecode(b"/photos/caf\xe9")
    assert "caf" in write_report(run).read_text(encoding="utf-8")


def test_a_collapse_seen_elsewhere_is_a_collapse_here(monkeypatch):
    """Under several processes one alone looks at samples; all are to start again."""
    t = Trainer(lf.create("gan", image_shape=(1, 8, 8)), tiny_data((1, 8, 8)), examples=64, quiet=True)
    t.started = t.base_seconds = 0.0
    monkeypatch.setattr("latentforge.distributed.agree", lambda votes, world: [True, True])
    with pytest.raises(Collapsed):
        t.heed()
    monkeypatch.setattr("latentforge.distributed.agree", lambda votes, world: [True, False])
    with pytest.raises(RunError, match="finding"):
        t.heed()


def test_few_large_images_at_once():
    assert at_once((1, 28, 28), 500) == 500
    assert at_once((3, 512, 512), 500) == 42
    assert at_once((3, 8192, 8192), 500) == 1
    sizes = [len(b) for b in Images(torch.zeros(5, 3, 2048, 2048, dtype=torch.uint8)).batches()]
    assert sizes == [2, 2, 1]


def test_a_run_says_where_its_images_are():
    trainer = trainer_of(Tiny())
    assert "processor's memory" not in trainer.applied(True)
    trainer.device = torch.device("cuda")
    assert "images in the processor's memory" in trainer.applied(True)


def test_parts_that_batch_norm_sees_alone_are_told(capsys):
    for game, accumulate, told in ((Normed(), 4, True), (Normed(), 1, False), (Tiny(), 4, False)):
        trainer_of(game, accumulate=accumulate, quiet=False).fit()
        assert ("see 4 images at once and not 16" in capsys.readouterr().err) == told


def test_a_trainer_that_another_replaces_lets_go_of_what_it_has():
    trainer = trainer_of(Tiny(), ema=100)
    trainer.round()
    image = weakref.ref(trainer.streams[0].images)
    trainer.let_go()
    assert image() is None
    assert not trainer.optimizers


def test_a_run_goes_on_elsewhere(tmp_path, monkeypatch):
    lf.fit(
        "vae", "mnist-5k", out=tmp_path / "run", examples=256, quiet=True, model_options={"net": "mlp", "hidden": (8,)}
    )
    file = tmp_path / "run" / "config.yaml"
    text = file.read_text().replace("device: cpu", "device: cuda:7").replace("precision: fp32", "precision: bf16")
    file.write_text(text)
    refused(lambda: lf.resume(tmp_path / "run", examples=512, quiet=True), "cuda:7")
    used = []
    begin = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda self: used.append(self.precision) or begin(self))
    lf.resume(tmp_path / "run", examples=512, device="cpu", quiet=True)
    assert used == ["fp32"]  # half precision may be slow here


def test_a_rate_below_zero_is_told_as_a_number():
    model = lf.create("vae", image_shape=(1, 8, 8))
    refused(lambda: lf.fit(model, tiny_data((1, 8, 8)), examples=64, lr=-0.1, quiet=True), "0 or more")


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", RunError, "--batch-size 128"),
        ("CUDA out of memory. Tried to allocate 9 GiB", RunError, "--batch-size 128"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)", RunError, "--batch-size 128"),
        ("more than one element of the written-to tensor refers to a single memory location", RuntimeError, "location"),
    ],
)
def test_memory_that_runs_out_is_one_line_and_nothing_else_is(words, kind, told, monkeypatch):
    t = Trainer(lf.create("vae", image_shape=(1, 8, 8)), tiny_data((1, 8, 8)), examples=64, quiet=True)

    def broken():
        raise RuntimeError(words)

    monkeypatch.setattr(t, "round", broken)
    with pytest.raises(kind, match=told):
        t.fit()


def test_numbers_of_numpy_are_kept_as_numbers(tmp_path):
    model = lf.create("vae", image_shape=(1, 8, 8), latent_dim=np.int64(3), net="mlp", hidden=(np.int32(8),))
    lf.fit(model, tiny_data((1, 8, 8)), out=tmp_path / "r", examples=np.int64(64), seed=np.int64(1), quiet=True)
    assert lf.load(tmp_path / "r").latent_dim == 3
    conv = {"net": "conv", "width": np.int32(4), "kernel": np.int64(3)}
    lf.create("vae", image_shape=(1, 8, 8), **conv).save_pretrained(tmp_path / "model")
    assert lf.load(tmp_path / "model").args["kernel"] == 3


def test_an_older_torch_does_not_say_what_the_processor_can(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_in_bf16()


def test_generators_of_other_devices_are_left_alone(monkeypatch):
    def touched(*args):
        raise AssertionError("a generator of CUDA was seeded")

    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, touched)
    model = lf.fit("vae", tiny_data((1, 8, 8)), examples=64, quiet=True, sampler="gmm", model_options={"net": "mlp"})
    model.sample(2, seed=0)
    lf.evaluate(model, tiny_data((1, 8, 8)), metrics=("own", "codes"), repeats=0)


@pytest.mark.parametrize(
    "error", [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), MemoryError()]
)
def test_want_of_memory_of_a_verb_is_one_line(error, monkeypatch, capsys):
    from latentforge import cli

    def want(*arguments, **how):
        raise error

    monkeypatch.setattr(cli.root, "main", want)
    assert cli.main(["models"]) == 1
    assert "more memory than there is" in capsys.readouterr().err


def test_a_refused_training_leaves_the_model_as_it_was(tmp_path):
    model = lf.fit("vae", tiny_data((1, 8, 8)), examples=64, quiet=True, sampler="gmm", model_options={"net": "mlp"})
    refused(lambda: lf.fit(model, tiny_data((1, 8, 8)), examples=64, lr="encodr=1e-3", quiet=True), "encodr")
    assert model.sampler is not None
    restart = {"on_collapse": "restart", "out": tmp_path / "run"}
    refused(lambda: lf.fit(model, tiny_data((1, 8, 8)), examples=64, quiet=True, **restart), "by name")
    lf.fit(model, tiny_data((1, 8, 8)), examples=64, device=torch.device("cpu"), quiet=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [("vae", {"net": "mlp"}), ("r3gan", {"width": 4, "penalty_every": 1}), ("began", {"hidden": (8,)})],
)
def test_compiled_networks_train_as_written(name, options, monkeypatch):
    """Traced, which is where a gradient of a gradient or an averaged copy would break, but not turned into machine code."""
    whole = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: whole(module, backend="aot_eager"))
    data, found = tiny_data((1, 16, 16)), []
    for how in ("off", "on"):
        model = lf.fit(name, data, examples=64, batch_size=16, quiet=True, compile=how, precision="fp32",
                       model_options=options)  # fmt: skip
        found.append(dict(model.state_dict()))
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-3, atol=1e-5)


def test_a_compiler_that_is_missing_is_known_before_anything_is_written(tmp_path, monkeypatch):
    def fails(module):
        raise RuntimeError("Compiler: cl is not found.\n\nSet TORCHDYNAMO_VERBOSE=1 for the internal stack trace")

    monkeypatch.setattr(nn.Module, "compile", fails)
    options = {"model_options": {"net": "mlp"}, "examples": 16, "quiet": True, "compile": "on", "out": tmp_path / "run"}
    refused(lambda: lf.fit("vae", tiny_data(SHAPE), **options), "--compile on: Compiler: cl is not found; leave it out")
    assert not (tmp_path / "run").exists()


def test_no_two_rounds_share_their_noise():
    """A generator on the processor looks at 32 bits of its seed: of 60,000 mixed ones one pair in two runs is alike."""
    t, seen = Clock(seed=3), set()
    for t.round in range(60_000):
        t.start_round()
        seen.add(t.generator.initial_seed() & 0xFFFFFFFF)
    assert len(seen) == 60_000


def test_several_processes_do_not_share_apples_gpu(monkeypatch):
    from latentforge.distributed import local_device

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert local_device(torch.device("mps"), True).type == "cpu"
    refused(lambda: local_device(torch.device("mps")), "--device cpu")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert local_device(torch.device("mps")).type == "mps"


def test_several_processes_are_refused_on_windows(monkeypatch):
    """The file of the images that they share could not be removed there."""
    monkeypatch.setattr(distributed, "WINDOWS", True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(lambda: lf.fit("vae", tiny_data(SHAPE), examples=16, quiet=True), "Linux and macOS only")


def test_half_precision_is_for_gpus_that_have_it(monkeypatch):
    for capability, precision in (((7, 5), "fp32"), ((8, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert pick_precision(torch.device("cuda"), False) == precision


def test_a_model_of_an_unfinished_run_knows_its_batches(tmp_path):
    options = {"minibatch": 4, "hidden": (8,), "critic_hidden": (8,)}
    model = lf.create("gan", image_shape=(1, 8, 8), **options)
    out = tmp_path / "r"
    lf.fit(
        "gan",
        tiny_data((1, 8, 8)),
        out=out,
        examples=96,
        batch_size=24,
        accumulate=2,
        quiet=True,
        model_options=options,
    )
    shutil.rmtree(out / "model")
    found = lf.load(out)
    assert (found.part_size, found.trained_on) == (12, "synthetic ellipses")
    assert model.part_size is None


@pytest.mark.parametrize(
    "words",
    ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes", "Invalid buffer size: 12.00 GiB"],
)
def test_want_of_memory_is_one_line_with_a_remedy(words):
    with (
        pytest.raises(RunError, match="lower --batch-size 64, cut it into parts with --accumulate"),
        want_of_memory(64),
    ):
        raise RuntimeError(words)
    with pytest.raises(RuntimeError, match="shapes"), want_of_memory(64):
        raise RuntimeError("shapes do not fit")
