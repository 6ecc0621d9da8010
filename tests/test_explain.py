"""`latentforge explain` and `latentforge models`: what is told of a model is what it is."""

from __future__ import annotations

import inspect
import math
import re
import sys

import pytest
import torch

import latentforge as lf
from latentforge import presets, registry
from latentforge.cli import main
from latentforge.cli.explain import explain
from latentforge.cli.train import train_command
from latentforge.registry import KINDS, MODELS
from playing import CRITIC, GENERATOR

SHAPE = (1, 28, 28)
EXTRA = {
    name: {"num_classes": 10} for name in MODELS if "num_classes" in registry.arguments(registry.model_class(name))
}


def section(text: str, title: str) -> list[str]:
    """The lines under a title, up to the next empty line."""
    lines = text.split("\n")
    begin = next(i for i, line in enumerate(lines) if line.startswith(title)) + 1
    return lines[begin : (lines.index("", begin) if "" in lines[begin:] else len(lines))]


def told(name: str, **arguments) -> list[tuple[str, str, str]]:
    """(player, weight, formula) of every term, in the order printed."""
    out, player = [], ""
    for line in section(explain(name, arguments), "One round"):
        found = re.fullmatch(r" {7}(?:(\S+) +minimises|) +(\+?) (?:(\S+) \* )?(\S.*)", line)
        if found:
            assert bool(found[1]) != (found[2] == "+")
            player = found[1] or player
            out.append((player, found[3] or "1", found[4]))
    return out


# -- every model -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODELS)
def test_every_model(name, capsys):
    """Its summary and paper, every player with what it descends, how it steps and its size, the departures."""
    text, row = explain(name, {}), MODELS[name]
    model = registry.create(name, image_shape=SHAPE, **EXTRA.get(name, {}))
    assert text.split("\n")[:3] == [f"{name}: {row.summary}", row.paper, "for images of 28 x 28, 1 channel"]

    round_ = section(text, "One round")
    numbers = [int(m[1]) for line in round_ if (m := re.match(r"  (\d+)\. ", line))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {player for player, _, _ in told(name)} == set(model.players())
    terms = {(t.player, f"{t.weight:g}", t.formula) for move in model.objective() for t in move}
    assert set(told(name)) == terms

    steps = {line.split()[0]: line for line in section(text, "Steps")}
    assert set(steps) == set(model.players())
    listed: dict[frozenset, str] = {}
    for player, modules in model.players().items():
        size = sum(math.prod(p.shape) for m in modules for p in m.parameters())
        first = listed.setdefault(frozenset(p for m in modules for p in m.parameters()), player)
        seat = model.seats()[player]
        assert f"{seat.optimizer}, rate {seat.lr:g}" in steps[player]
        assert (f"; {size:,} parameters" if first == player else f"; the weights of {first}") in steps[player]

    (departures,) = section(text, "Departures from the paper")
    assert len(departures) > 40
    source = inspect.getsource(sys.modules[type(model).__module__])
    assert departures.strip() in " ".join(source.split())
    assert main(["explain", name]) == 0
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.parametrize("name", MODELS)
def test_flags_and_presets_that_departures_name_exist(name):
    """Each `--flag` is one of `latentforge train MODEL`, each preset is in the package and for this model."""
    (departures,) = section(explain(name, {}), "Departures from the paper")
    flags = {o for p in train_command(name).params for o in p.opts}
    for flag in re.findall(r"`(--[a-z0-9-]+)", departures):
        assert flag in flags
    for preset in re.findall(r"--preset ([\w/-]+)", departures):
        assert preset in presets.list_presets()
        assert presets.load(preset)["model"] == name


# -- the formulas ----------------------------------------------------------------------------------------------------
def value(formula: str, **verdicts: float) -> float:
    """The formula as it is printed, computed; D(...) by name, a logit, and s the sigmoid."""
    code = formula.replace("^", "**")
    for i, said in enumerate(verdicts):
        code = code.replace(f"D({NAMES[said]})", f"v{i}")
    code = re.sub(r"log (s\(v\d\))", r"log(\1)", code)
    numbers = {f"v{i}": v for i, v in enumerate(verdicts.values())}
    functions = {
        "log": math.log, "max": max, "softplus": lambda v: math.log1p(math.exp(v)), "s": lambda v: 1 / (1 + math.exp(-v)),
    }  # fmt: skip
    return eval(code, {"__builtins__": {}}, functions | numbers)


NAMES = {"real": "x", "fake": "G(z)", "real_pair": "x,E(x)", "fake_pair": "G(z),z", "rebuilt": "x~", "sampled": "x_p"}
POINTS = [(0.3, -0.4, 1.1), (-2.0, 1.5, 0.2), (2.5, 0.6, -3.0), (0.1, -3.0, 0.7)]
SWAPPED = {  # what the maker of the real pairs descends
    "nonsaturating": lambda r: math.log(1 + math.exp(r)), "minimax": lambda r: -math.log(1 + math.exp(-r)),
    "least-squares": lambda r: r**2, "hinge": lambda r: r, "wasserstein": lambda r: r, "relativistic": lambda r: 0.0,
}  # fmt: skip


def of(terms: list[tuple[str, str, str]], player: str) -> list[str]:
    return [formula for name, _, formula in terms if name == player]


@pytest.mark.parametrize("kind", CRITIC)
def test_the_formulas_told_are_those_descended(kind):
    """Critic, generator, and BiGAN's pair of players, at many verdicts."""
    terms, pairs = told("gan", loss=kind), told("bigan", loss=kind, r1=0.0)
    for r, f, _ in POINTS:
        at = (torch.tensor([r]).double(), torch.tensor([f]).double())
        critic, generator = CRITIC[kind](*at).item(), GENERATOR[kind](*at).item()
        for names, rows in ((("real", "fake"), terms), (("real_pair", "fake_pair"), pairs)):
            verdicts = dict(zip(names, (r, f), strict=True))
            assert sum(value(v, **verdicts) for v in of(rows, "critic")) == pytest.approx(critic, rel=1e-6)
        assert sum(value(v, real=r, fake=f) for v in of(terms, "generator")) == pytest.approx(generator, rel=1e-6)
        for player in ("encoder", "generator"):
            found = sum(value(v, real_pair=r, fake_pair=f) for v in of(pairs, player))
            assert found == pytest.approx(generator + SWAPPED[kind](r), rel=1e-6)


@pytest.mark.parametrize("kind", [k for k in CRITIC if k != "relativistic"])
def test_each_kind_of_fakes_is_told(kind):
    """VAE-GAN: one cost of the real image, one of each fake."""
    rows = told("larsen-vae-gan", loss=kind)
    for r, f, g in POINTS:
        real, *fakes = (torch.tensor([v]).double() for v in (r, f, g))
        far = torch.tensor([{"hinge": -9.0, "wasserstein": 0.0, "least-squares": 0.0}.get(kind, -99.0)]).double()
        critic = CRITIC[kind](real, fakes[0]) + CRITIC[kind](real, fakes[1]) - CRITIC[kind](real, far)
        found = sum(value(v, real=r, rebuilt=f, sampled=g) for v in of(rows, "critic"))
        assert found == pytest.approx(critic.item(), rel=1e-6)
        fool = sum(GENERATOR[kind](real, v).item() for v in fakes)
        adversarial = [v for v in of(rows, "decoder") if "D(" in v]
        assert sum(value(v, real=r, rebuilt=f, sampled=g) for v in adversarial) == pytest.approx(fool, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("gan", {"r1": 0.3}, [("critic", "0.3", "||grad D(x)||^2 / 2")]),
        ("gan", {"r2": 0.25}, [("critic", "0.25", "||grad D(G(z))||^2 / 2")]),
        ("wgan-gp", {"gradient_penalty": 7.5}, [("critic", "7.5", "(||grad D(between x and G(z))|| - 1)^2")]),
        ("cgan", {"r1": 2.0}, [("critic", "2", "||grad D(x|y)||^2 / 2")]),
        ("bigan", {"r2": 0.5}, [("critic", "0.5", "||grad D(G(z),z)||^2 / 2")]),
        ("aae", {"r1": 0.5}, [("critic", "0.5", "||grad D(z_p)||^2 / 2")]),
        ("vae", {"beta": 4.0}, [("vae", "4", "KL(q(z|x) || N(0, I))")]),
        ("vae", {"prior": "uniform"}, [("vae", "1", "KL(q(z|x) || U(-1, 1))")]),
        ("cvae", {"beta": 0.5}, [("vae", "0.5", "KL(q(z|x, y) || N(0, I))")]),
        ("joint-vae-gan", {"kl": 0.02}, [("generator", "0.02", "KL(q(z|x) || N(mean, variance of G(u)))")]),
        ("larsen-vae-gan", {"beta": 3.0, "gamma": 0.3, "feature": 0.6, "pixel": 0.2}, [
            ("encoder", "3", "KL(q(z|x) || N(0, I))"), ("encoder", "0.6", "||D_l(x) - D_l(x~)||^2 / 2"),
            ("encoder", "0.2", "-log p(x|z)  (bernoulli, nats)"), ("decoder", "0.18", "||D_l(x) - D_l(x~)||^2 / 2"),
            ("decoder", "0.06", "-log p(x|z)  (bernoulli, nats)"),
        ]),
        ("larsen-vae-gan", {"objective": "sum", "weight": 6.0}, [("decoder", "6", "-log s(D(x_p))")]),
    ],
    ids=str,
)  # fmt: skip
def test_weights_asked_for_are_told(name, arguments, expected):
    found = told(name, **arguments)
    assert set(expected) <= set(found)
    assert not set(expected) <= set(told(name))


@pytest.mark.parametrize(
    ("name", "arguments", "part"),
    [
        ("iwae", {"particles": 17}, "K = 17"), ("unrolled-gan", {"unroll": 9}, "9 steps ahead"),
        ("began", {"gamma": 0.37}, "0.37 L(x)"), ("began", {"proportional_gain": 0.02}, "by 0.02 ("),
        ("denoising-vae", {"corruption": "masking", "amount": 0.35}, "masking noise of 0.35"),
        ("autoencoder", {"reconstruction": "bernoulli"}, "cross-entropy"),
        ("vae", {"likelihood": "gaussian"}, "(gaussian, nats)"), ("aae", {"reconstruction": "squared"}, "||x - x'||^2"),
    ],
    ids=str,
)  # fmt: skip
def test_other_settings_are_told(name, arguments, part):
    assert part in explain(name, arguments)
    assert part not in explain(name, {})


def test_steps_in_turn():
    assert "  1. critic, 5 times in turn" in section(explain("wgan", {}), "One round")
    both = section(explain("gan", {"critic_steps": 3, "generator_steps": 2}), "One round")
    assert [line for line in both if line.startswith(("  1.", "  2."))] == [
        "  1. critic, 3 times in turn", "  2. generator, 2 times in turn",
    ]  # fmt: skip
    assert "  2. encoder and generator together" in section(explain("bigan", {}), "One round")


def test_moves_of_a_later_stage_say_when_they_begin():
    moves = [line for line in section(explain("vae-gan", {}), "One round") if re.match(r"  \d\. ", line)]
    assert moves == ["  1. encoder and decoder together", "  2. generator and critic together (from 25% of the budget)"]
    assert "from" not in section(explain("vae-gan", {"share": 1.0}), "One round")[0]
    later = section(explain("ssl-vae", {"form": "m1+m2", "share": 0.3}), "One round")
    assert any("vae (from 30% of the budget)" in line for line in later)
    assert "the weights of decoder" in next(
        line for line in section(explain("vae-gan", {}), "Steps") if "generator" in line
    )


def test_the_size_of_the_images_is_asked_for(capsys):
    assert run("vae-gan", "--image-size", "32x30", "--channels", "3") == 0
    out = capsys.readouterr().out
    assert out == explain("vae-gan", {}, (3, 32, 30)) + "\n"
    assert "for images of 32 x 30, 3 channels" in out
    assert "-log s(D(x))" in out  # the game of larger images
    assert "-log s(D(x))" not in explain("vae-gan", {})
    assert "penalty-every" not in out  # batch norm leaves no penalty
    assert "penalty-every" in explain("r3gan", {"penalty_every": 4})


def test_rules_of_the_duel_are_told_where_they_are_not_the_plain_ones():
    title = "Options of the critic that differ from the plain GAN's"
    assert title not in explain("gan", {})
    assert title not in explain("vae", {})
    assert {line.split(":")[0] for line in section(explain("gan", {"smoothing": 0.1, "augment": "color"}), title)} == {
        "  --smoothing 0.1", "  --augment color",
    }  # fmt: skip
    assert {line.split(":")[0] for line in section(explain("wgan", {}), title)} == {
        "  --loss wasserstein", "  --critic-steps 5", "  --clip-weights 0.005",
    }  # fmt: skip


# -- the command -----------------------------------------------------------------------------------------------------
def run(*arguments: str) -> int:
    return main(["explain", *arguments])


def test_costs_that_are_held_back_are_told():
    """What is free, what grows, what is smoothed and what comes more often: the formula has it, not the list of flags alone."""
    shown = {"image_shape": (1, 8, 8)}
    vae = lf.create("vae", free_bits=0.5, kl_warmup=2000, **shown).objective()
    assert "max(0.5, E KL_j)" in vae[0][1].formula
    assert "from 0 up over 2,000 images" in vae[0][1].formula
    critic = lf.create("gan", smoothing=0.3, loss="least-squares", **shown).objective()[0]
    assert critic[0].formula == "(D(x) - 0.7)^2"
    critic = lf.create("gan", smoothing=0.3, **shown).objective()[0]
    assert critic[0].formula == "-0.7 log s(D(x)) - 0.3 log(1 - s(D(x)))"
    assert "rounds 1 to 25 and in every 500th 100 times" in lf.create("wgan", **shown).objective()[0][0].formula
    assert "500th" not in lf.create("wgan", boosted_rounds=0, **shown).objective()[0][0].formula


def test_command(capsys):
    assert run("gan", "--r1", "0.3", "--loss", "hinge", "--hidden", "16,8") == 0
    out = capsys.readouterr().out
    assert "0.3 * ||grad D(x)||^2 / 2" in out
    assert "max(0, 1 - D(x))" in out
    assert "max(0, 1 + D(G(z)))" in out
    assert all("log" not in line for line in section(out, "One round"))
    assert "D is the critic's logit" in out
    assert "D is the critic's logit" not in explain("restorer", {})  # which has none unless asked for
    assert out == explain("gan", {"r1": 0.3, "loss": "hinge", "hidden": (16, 8)}) + "\n"
    assert "parameters" in out


def test_command_with_descriptors(capsys):
    assert run("cvae", "--descriptor-mean", "0,1", "--descriptor-stddev", "1,2") == 0
    assert run("cvae", "--num-classes", "4") == 0
    few, many = (explain("cvae", {"num_classes": n}) for n in (4, 10))
    assert capsys.readouterr().out.endswith(few + "\n")
    assert few != many  # in their parameters


def test_command_with_a_preset(capsys):
    preset = presets.load("mnist/larsen")
    assert run("larsen-vae-gan", "--preset", "mnist/larsen") == 0
    expected = explain("larsen-vae-gan", preset["arguments"])
    assert capsys.readouterr().out == expected + "\n"
    assert run("--preset", "mnist/larsen") == 0
    assert capsys.readouterr().out == expected + "\n"
    assert run("larsen-vae-gan", "--preset", "mnist/larsen", "--loss", "hinge") == 0
    assert capsys.readouterr().out == explain("larsen-vae-gan", preset["arguments"] | {"loss": "hinge"}) + "\n"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["vae-gam"], "Did you mean 'vae-gan'"),
        (["vae", "--btea", "4"], "Did you mean --beta"),
        (["vae", "--beta", "much"], "'much'"),
        (["vae", "--beta", "-1"], "--beta -1"),
        (["vae", "--latent-dim", "0"], "--latent-dim 0"),
        (["vae", "--beta"], "--beta"),
        (["vae", "--image-shape", "1,8,8"], "--image-shape"),
        (["vae", "--kernel", "99"], "kernel 99"),
        (["vae", "--image-size", "large"], "image size 'large'"),
        (["vae", "--channels", "5"], "channels=5"),
        (["gan", "--loss", "hnge"], "hnge"),
        (["gan", "--loss", "hinge", "--smoothing", "0.1"], "smoothing"),
        (["gan", "--hidden", "16,x"], "16,x"),
        (["iwae", "--beta", "2"], "no KL term"),
        (["began", "--gamma", "2"], "gamma 2"),
        (["joint-vae-gan", "--start-rounds", "900"], "start_rounds"),
        (["cvae", "--descriptor-mean", "0,1"], "descriptor_stddev"),
        (["vae", "--preset", "mnist/larsen"], "is for larsen-vae-gan"),
        (["vae", "--preset", "mnist/lasren"], "mnist/larsen"),
        (["--loss", "hinge"], "name the model"),
        (["vae", "surplus"], "surplus"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments, part, capsys):
    assert run(*arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert part in error


def test_help_of_a_model_shows_its_own_flags(capsys):
    assert run("unrolled-gan", "--help") == 0
    out = capsys.readouterr().out
    assert "--unroll-rate" in out
    assert "--preset" in out
    assert "--examples" not in out  # the trainer's


# -- models ----------------------------------------------------------------------------------------------------------
def test_models_lists_every_model_under_its_kind_with_its_paper(capsys):
    assert main(["models"]) == 0
    blocks = [block.split("\n") for block in capsys.readouterr().out.strip("\n").split("\n\n")]
    assert [b[0] for b in blocks] == list(KINDS.values())
    listed = []
    for kind, (_, *lines) in zip(KINDS, blocks, strict=True):
        assert len(lines) % 2 == 0
        for first, second in zip(lines[::2], lines[1::2], strict=True):
            name, summary = first.split(maxsplit=1)
            listed.append(name)
            assert MODELS[name].kind == kind
            assert summary == MODELS[name].summary
            assert second.strip() == MODELS[name].paper
    assert sorted(listed) == sorted(MODELS)
