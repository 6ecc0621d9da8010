"""The contract suite: what must hold for every registered model. A new family adds a model file, not a test file."""

from __future__ import annotations

import copy

import pytest
import torch

import latentforge as lf
from conftest import tiny_data
from latentforge.checkpoint import take_up
from latentforge.clock import Clock
from latentforge.data.stream import Stream
from latentforge.data.synthetic import blobs
from latentforge.errors import InputError
from latentforge.game import frozen, own_parameters
from latentforge.nets.classifier import GaussianNoise
from latentforge.parts.minibatch import MinibatchDiscrimination
from latentforge.parts.operators import spoil
from latentforge.registry import SIZES, arguments, matters, model_class
from latentforge.run import Run
from latentforge.train import Trainer

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 30, 46)]
DENSE_ONE = {"hidden": (24,)}
DENSE = DENSE_ONE | {"critic_hidden": (24,)}
SEMI = {"hidden": (24,), "num_classes": 3}
PHASES = {"gan_rounds": 2, "vae_rounds": 3, "start_rounds": 1, "noise_dim": 6, "generator_hidden": (8,)}
VARIANTS = {
    "autoencoder": [{"net": "mlp", "hidden": (24,)}, {"net": "conv", "width": 4}],
    "vae": [
        {"net": "mlp", "hidden": (24,)},
        {"net": "conv", "width": 4, "likelihood": "pixel-gaussian"},
        {"net": "mlp", "hidden": (24,), "posterior": "full", "prior_mean": (0.5,), "prior_scale": (2.0,)},
        {"net": "mlp", "hidden": (24,), "prior": "uniform", "likelihood": "learned-gaussian", "kl_warmup": 100},
        {"net": "mlp", "hidden": (24,), "free_bits": 0.1, "likelihood": "gaussian"},
        {"net": "article-004"},
        {"net": "resnet", "width": 4, "binarise": True},
    ],
    "denoising-autoencoder": [
        {"net": "mlp", "hidden": (24,)},
        {"net": "mlp", "hidden": (24,), "corruption": "salt-and-pepper", "reconstruction": "bernoulli"},
        {"net": "mlp", "hidden": (24,), "corruption": "faded", "amount": 0.5},
    ],
    "denoising-vae": [
        {"net": "mlp", "hidden": (24,), "corruption": "masking"},
        {"net": "mlp", "hidden": (24,), "corruption": "blur", "amount": 1.0},
    ],
    "cvae": [
        {"net": "mlp", "hidden": (24,), "num_classes": 3},
        {"net": "conv", "width": 4, "num_classes": 3, "posterior": "full", "drop": 0.0},
    ],
    "iwae": [{"net": "mlp", "hidden": (24,)}, {"net": "mlp", "hidden": (24,), "prior": "uniform", "particles": 2}],
    "gan": [
        DENSE,
        DENSE | {"noise": "normal", "loss": "hinge", "critic_steps": 2, "generator_steps": 2},
        DENSE | {"loss": "least-squares", "smoothing": 0.1, "label_noise": 0.1, "instance_noise": 0.1},
        DENSE | {"spectral_norm": True, "augment": "all", "r1": 0.1},
        DENSE | {"minibatch": 3, "generator_dropout": 0.2, "dropout_in_samples": True},
    ],
    "dcgan": [{"width": 4}, {"net": "article-004"}, {"net": "article-003"}],
    "wgan": [DENSE | {"net": "mlp", "boosted_rounds": 0, "critic_steps": 2}],
    "wgan-gp": [{"width": 4, "critic_steps": 2}, DENSE | {"net": "mlp", "critic_steps": 1}],
    "r3gan": [{"width": 4}, DENSE | {"net": "mlp", "penalty_every": 2}],
    "began": [DENSE_ONE | {"net": "mlp"}, {"net": "conv", "width": 4}],
    "unrolled-gan": [DENSE | {"unroll": 2}],
    "cgan": [
        {"width": 4, "num_classes": 3},
        DENSE | {"net": "mlp", "num_classes": 3, "how": "concat", "minibatch": 2},
        DENSE | {"net": "mlp", "num_classes": 3, "minibatch": 2, "spectral_norm": True},
    ],
    "aae": [DENSE | {"net": "mlp"}, DENSE | {"net": "mlp", "noise": "uniform", "reconstruction": "squared"}],
    "bigan": [
        DENSE | {"net": "mlp"},
        {"width": 4, "encoder": "stochastic", "loss": "relativistic", "critic_hidden": (24,), "r1": 0.1},
    ],
    "vae-gan": [
        {"width": 4, "critic_width": 4},
        {"width": 4, "critic_width": 4, "game": "dcgan", "share": 0.0},
        {"net": "mlp", "hidden": (24,), "critic_width": 4, "share": 0.0},
        {"net": "mlp", "critic_net": "mlp", "hidden": (24,), "share": 0.0, "loss": "hinge", "critic_steps": 2,
         "generator_steps": 2, "augment": "cutout", "minibatch": 2},
    ],
    "larsen-vae-gan": [
        {"net": "conv", "width": 4},
        {"net": "mlp", "hidden": (24,), "objective": "sum"},
        {"net": "mlp", "hidden": (24,), "objective": "in-turn"},
        {"net": "larsen"},
        {"net": "mlp", "hidden": (24,), "loss": "relativistic", "r1": 0.1, "r2": 0.1, "critic_steps": 2, "augment": "cutout"},
        {"net": "mlp", "hidden": (24,), "loss": "wasserstein", "gradient_penalty": 1.0, "generator_steps": 2,
         "minibatch": 2},
    ],
    "cvae-gan": [
        {"net": "mlp", "hidden": (24,), "num_classes": 3},
        {"net": "conv", "width": 4, "num_classes": 3, "how": "concat", "objective": "in-turn"},
    ],
    "restorer": [
        {"width": 4, "fine": 2},
        {"width": 4, "fine": 2, "task": "inpaint", "operator": "pixels:0.5", "error": "absolute"},
        {"width": 4, "fine": 2, "task": "superres", "error": "decibels", "similarity": "critic", "critic_width": 4},
        {"width": 4, "fine": 2, "task": "deblur", "similarity": "style", "critic_width": 4, "critic_steps": 2, "r1": 0.1},
        {"width": 4, "fine": 2, "task": "enhance", "similarity": "adversarial", "critic_width": 4, "loss": "relativistic"},
    ],
    "joint-vae-gan": [
        PHASES | DENSE | {"net": "mlp"},
        PHASES | {"width": 4, "critic_hidden": (24,), "loss": "hinge", "kl": 0.0},
    ],
    "ssl-vae": [
        SEMI | {"classifier_hidden": (24,), "width": 4},
        SEMI | {"classifier_hidden": (24,), "form": "m1+m2", "first_dim": 5, "share": 0.5, "certain": 0.1},
        SEMI | {"classifier_hidden": (24,), "net": "mlp"},
    ],
    "ssl-gan": [SEMI | {"critic_hidden": (24, 16), "width": 4}, SEMI | {"critic_hidden": (24,), "net": "mlp", "smooth": 0.0}],
    "ssl-vae-gan": [SEMI | {"critic_hidden": (24, 16), "width": 4}, SEMI | {"critic_hidden": (24,), "net": "mlp"}],
}  # fmt: skip
CASES = [pytest.param(name, args, id=f"{name}-{i}") for name, rows in VARIANTS.items() for i, args in enumerate(rows)]
FIRST = [pytest.param(name, rows[0], id=name) for name, rows in VARIANTS.items()]
PUBLISHED = ("larsen", "article-003", "article-004")  # of millions of weights; test_nets.py has their shapes
LIGHT = [case for case in CASES if case.values[1].get("net") not in PUBLISHED]
SHAPED = [
    pytest.param(*case.values, shape, id=f"{case.id}-{shape}")
    for shape in SHAPES for case in (CASES if shape == SHAPES[0] else LIGHT)
]  # fmt: skip


def build(name, args, shape=(1, 28, 28), seed=0):
    torch.manual_seed(seed)
    return lf.create(name, image_shape=shape, **sized(name), **args)


def sized(name):
    """The size of the code, of models that have one."""
    return {"latent_dim": 4} if "latent_dim" in arguments(model_class(name)) else {}


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


def test_every_registered_model_is_here():
    assert set(VARIANTS) == set(lf.list_models())


@pytest.mark.parametrize(("name", "args"), CASES)
def test_the_sizes_of_the_cases_matter(name, args):
    assert all(matters(build(name, args), size) for size in SIZES & set(args))


@pytest.mark.parametrize(("name", "args"), CASES)
def test_players_cover_all_parameters(name, args):
    model = build(name, args)
    owned = {id(p) for ps in own_parameters(model).values() for p in ps}
    assert sorted(owned) == sorted({id(p) for p in model.parameters() if p.requires_grad})
    assert set(model.seats()) == set(model.players())


@pytest.mark.parametrize(("name", "args", "shape"), SHAPED)
def test_shapes_and_ranges(name, args, shape):
    model = build(name, args, shape).eval()
    x = torch.rand(3, *shape)
    if not model.can_sample:
        with pytest.raises(InputError, match="--sampler gmm" if model.has_decoder else "makes no images from codes"):
            model.sample(5, seed=1)
        model.has_prior = True
    assert model.has_decoder or model.has_restorer
    for make in makers(model, shape):
        images = make(1)
        assert images.shape == (5, *shape)
        assert images.min() >= 0
        assert images.max() <= 1
        assert torch.equal(images, make(1))
        assert not torch.equal(images, make(2))
    if model.has_encoder:
        told = torch.arange(3) % 3 if model.condition is not None and not model.condition.drop else None
        q = model.encode(x, told)
        assert q.mean.shape == q.stddev.shape == q.sample().shape == (3, 4)
        assert model.reconstruct(x, told).shape == x.shape
        with torch.no_grad():
            assert torch.equal(model.encode(x, told).mean, q.mean)  # deterministic
    with torch.no_grad():
        measures = model.evaluate(tiny_data(shape).test[torch.arange(3)])
    assert measures
    assert all(v.shape == (3,) and v.isfinite().all() for v in measures.values())


def makers(model, shape):
    """How a model makes five images from a seed: by sampling, by restoring what an operator left of images."""
    out = [lambda seed: model.sample(5, seed=seed)] if model.has_decoder else []
    if model.has_restorer:
        size = tuple(shape[1:])
        images = {seed: blobs(5, shape, seed)[0] / 255 for seed in (1, 2, 3)}
        out += [lambda seed: model.restore(spoil(torch.as_tensor(images[seed]).float(), model.operator, seed), size)]
    return out


@pytest.mark.parametrize(("name", "args"), CASES)
def test_each_gradient_is_its_own_loss_alone_and_nothing_else_moves(name, args):
    """A twin plays the same round by hand: a plain backward of each player's loss alone. The trainer's gradients must
    be the twin's on the player's own parameters, and a move must change its own players and nobody else."""
    data = tiny_data()
    model = build(name, args)
    trainer = Trainer(model, data, epochs=1, batch_size=8, ema=0, precision="fp32", quiet=True)
    trainer.advance()
    twin = copy.deepcopy(model)
    t, stream = Clock(), Stream(data.train, 8)
    t.stage = trainer.clocks[0].stage
    trainer.clocks[0].start_round(), t.start_round()
    trainer.plays = [model.play(trainer.streams[0], trainer.clocks[0])]
    play = twin.play(stream, t)
    for number in range(100):
        torch.manual_seed(number)
        gradients = trainer.next_move()
        torch.manual_seed(number)
        move = next(play, None)
        assert (gradients is None) == (move is None)
        if gradients is None:
            break
        before = weights(model)
        for player, loss in move.items():
            twin.zero_grad()
            loss.backward(retain_graph=True)
            for got, p in zip(gradients[player], own_parameters(twin)[player], strict=True):
                torch.testing.assert_close(got, p.grad, rtol=1e-5, atol=1e-7)
        for player, grads in gradients.items():
            trainer.step(player, grads)
        moved = {k for k, p in model.named_parameters() if not torch.equal(before[k], p)}
        for player in model.players():
            others = set().union(*[names_of(model, other) for other in gradients if other != player])
            own = names_of(model, player) - others if player not in gradients else names_of(model, player)
            assert (moved & own != set()) == (player in gradients), f"move {number} of {list(gradients)}: {player}"
        here = twin.state_dict()
        for k, v in model.state_dict().items():
            if not torch.equal(here[k], v):  # a graph may be waiting over what has not moved
                here[k].copy_(v)
    assert number


def names_of(model, player):
    ids = {id(p) for p in own_parameters(model)[player]}
    return {k for k, p in model.named_parameters() if id(p) in ids}


@pytest.mark.parametrize(("name", "args"), LIGHT)
def test_the_objective_told_is_the_one_played(name, args):
    """`explain` names the players of every move, and no other moves."""
    model = build(name, args)
    told = {frozenset(term.player for term in move) for move in model.objective()}
    trainer = Trainer(model, tiny_data(), epochs=1, batch_size=8, ema=0, quiet=True)
    played = set()
    move = trainer.next_move

    def watched():
        gradients = move()
        played.update([] if gradients is None else [frozenset(gradients)])
        return gradients

    trainer.next_move = watched
    for _ in range(6):
        trainer.round()
    assert played == told
    if name != "joint-vae-gan" and not model.begins:  # whose rounds differ by phase or stage
        play = model.play(trainer.streams[0], trainer.clocks[0])
        assert [set(m) for m in play] == [{term.player for term in move} for move in model.objective()]


@pytest.mark.parametrize(("name", "args"), LIGHT)
def test_losses_finite_in_bf16(name, args):
    trainer = Trainer(build(name, args), tiny_data(), examples=24, batch_size=8, precision="bf16", quiet=True)
    model = trainer.fit()
    assert trainer.bad_steps == 0
    assert all(v.isfinite().all() for v in model.state_dict().values())


@pytest.mark.parametrize(("name", "args"), CASES)
def test_two_halves_equal_one_whole(name, args):
    """Accumulated halves step as the whole batch does, but for float rounding, unless examples are declared coupled."""
    model = build(name, args)
    if model.batch_coupled:
        assert has_coupling_layers(model), "declared coupled, but nothing in it couples examples"
        return
    after = []
    for accumulate in (1, 2):
        trainer = Trainer(build(name, args), tiny_data(), examples=16, batch_size=8, accumulate=accumulate, ema=0,
                          optimizer="sgd", lr=1e-3, precision="fp32", quiet=True)  # fmt: skip
        after.append(weights(trainer.fit()))
    start, most = weights(model), 0.0
    for key, value in after[0].items():
        if key.startswith("sampler"):
            continue
        moved, also = value - start[key], after[1][key] - start[key]
        step = float(moved.abs().max())
        torch.testing.assert_close(also, moved, rtol=0, atol=2e-3 * step + 2e-7 * float(value.abs().max()))
        most = max(most, step)
    assert most > 1e-5


def has_coupling_layers(model):
    kinds = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.Dropout, MinibatchDiscrimination, GaussianNoise)
    # the batch's mean and variance of codes, in joint-vae-gan's KL; its mean KL, against what is free
    moments = getattr(model, "kl_weight", 0.0) or getattr(model, "free_bits", 0.0)
    moving = getattr(model, "spectral_norm", False) or getattr(
        model, "unroll", 0
    )  # with every pass; by the whole batch
    return bool(moments or moving) or any(isinstance(m, kinds) for m in model.modules())


@pytest.mark.parametrize(("name", "args"), CASES)
def test_undeclared_coupling_is_absent(name, args):
    model = build(name, args)
    assert model.batch_coupled == has_coupling_layers(model)


@pytest.mark.parametrize(("name", "args"), FIRST)
def test_save_load_and_continue_is_exact(name, args, tmp_path):
    """Stopped and resumed in the middle, the weights and averages end bit-identical to an uninterrupted run."""
    data = tiny_data()
    whole = weights(Trainer(build(name, args), data, examples=80, batch_size=8, quiet=True).fit())
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    half = Trainer(build(name, args), data, examples=80, batch_size=8, quiet=True, run=run)
    half.started = half.base_seconds = 0.0
    while half.streams[0].drawn < 40:
        half.round()
    half.checkpoint()
    again = Trainer(build(name, args, seed=99), data, examples=80, batch_size=8, quiet=True, run=run)
    tensors, state, damaged = run.load_checkpoint()
    assert not damaged
    take_up(again, tensors, state)
    assert same(whole, weights(again.fit()))


@pytest.mark.parametrize(("name", "args"), LIGHT)
def test_saved_model_samples_the_same(name, args, tmp_path):
    model = Trainer(build(name, args), tiny_data(), examples=16, batch_size=8, quiet=True).fit()
    model.save_pretrained(tmp_path / "model")
    loaded = lf.load(tmp_path / "model")
    for mine, theirs in zip(makers(model, (1, 28, 28)), makers(loaded, (1, 28, 28)), strict=True):
        assert torch.equal(mine(3), theirs(3))
    assert loaded.args == model.args
    assert type(loaded).from_pretrained(str(tmp_path / "model")).args == model.args


@pytest.mark.parametrize(("name", "args"), FIRST)
def test_a_fitted_sampler_is_used_and_saved(name, args, tmp_path):
    model = build(name, args)
    if not model.has_encoder:
        with pytest.raises(InputError, match="no encoder"):
            Trainer(model, tiny_data(), examples=16, batch_size=8, sampler="gmm", quiet=True)
        return
    model = Trainer(model, tiny_data(), examples=16, batch_size=8, sampler="gmm", quiet=True).fit()
    torch.manual_seed(0)
    data = tiny_data().train
    drawn, (encoded, _) = model.draw_codes(2000, seed=0), model.codes_of(data)
    assert ((drawn.mean(0) - encoded.mean(0)).abs() < encoded.std(0)).all()
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(lf.load(tmp_path / "model").draw_codes(9, seed=1), model.draw_codes(9, seed=1))
    fresh = build(name, args)
    assert not fresh.can_sample or not torch.equal(model.draw_codes(9, seed=1), fresh.draw_codes(9, seed=1))


@pytest.mark.parametrize(("name", "args"), FIRST)
def test_images_are_encoded_where_the_model_is(name, args):
    """Images and labels may lie elsewhere; `meta` is a device that every machine has."""
    model, x = build(name, args).eval().to("meta"), torch.rand(2, 1, 28, 28)
    if not model.has_encoder:
        with pytest.raises(InputError, match=f"{name} has no encoder"):
            model.encode(x)
        return
    told = None if model.condition is None else torch.zeros(2).long()
    assert model.encode(x, told).mean.device.type == "meta"


@pytest.mark.parametrize(("name", "args"), FIRST)
def test_one_seed_agrees_another_differs(name, args):
    runs = [
        weights(lf.fit(name, tiny_data(), examples=32, batch_size=8, seed=s, quiet=True,
                       model_options={**sized(name), **args}))
        for s in (0, 0, 1)
    ]  # fmt: skip
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize(("name", "args"), FIRST)
def test_a_frozen_player_passes_gradients_and_keeps_its_state(name, args):
    """Called through `frozen`, a network answers as it would itself, gives its input a gradient and its weights none,
    and keeps its buffers (BatchNorm would move them in train mode)."""
    model = build(name, args).train()
    model.meet(tiny_data().train)
    networks = {m: k for k, m in model.named_children() if k in ("encoder", "decoder", "generator", "critic")}
    told = [] if model.condition is None else [model.condition(torch.zeros(4).long(), 4)]
    inputs = {m: (torch.rand(4, 1, 28, 28), *told) for m, k in networks.items() if k == "critic"}  # as `play` calls it,
    hooks = [m.register_forward_pre_hook(lambda m, args: inputs.update({m: args})) for m in networks]  # where it does
    if model.has_decoder:
        model.sample(4, seed=0) if model.can_sample else model.decode(torch.randn(4, 4))
    for _ in model.play(Stream(tiny_data().train, 8), Clock()):
        pass
    for hook in hooks:
        hook.remove()
    for network in networks:
        x, *rest = [a.detach() for a in inputs[network]]
        x.requires_grad_()
        before = weights(network)
        torch.manual_seed(0)
        out = frozen(network)(x, *rest)
        (slope,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
        assert slope.abs().sum() > 0
        with pytest.raises(RuntimeError, match="not have been used"):
            torch.autograd.grad(out.sum(), next(network.parameters()))
        assert same(before, weights(network))
        torch.manual_seed(0)
        torch.testing.assert_close(out, network(x, *rest))


@pytest.mark.parametrize("name", lf.list_models())
@pytest.mark.parametrize("shape", SHAPES)
def test_what_suits_the_images_can_be_given(name, shape):
    cls = model_class(name)
    assert set(cls.suited_to(tiny_data(shape).train, {})) <= set(arguments(cls)) - {"image_shape"}


def test_misspelt_names_are_suggested():
    with pytest.raises(InputError, match="Did you mean 'vae-gan'"):
        lf.create("vaegan", image_shape=(1, 28, 28))
    with pytest.raises(InputError, match="Did you mean 'latent_dim'"):
        lf.create("vae", image_shape=(1, 28, 28), latentdim=3)
