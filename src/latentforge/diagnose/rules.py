"""The rules that read a run, each with its remedy. A rule looks at the history and says what it saw, or nothing. Thresholds
were set on part `tune` of benchmarks/doctor.py and then frozen; docs/doctor.md says how they did on part `check`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from latentforge.diagnose.history import COSTS, GENERATORS, MOVED, History
from latentforge.game import Game
from latentforge.registry import SIZES, matters

SETTLED = 0.15  # share of the budget before which samples and codes are not judged
RISING = 1.15  # a sign that grows by more over three previews is on its way up
EVEN = 1.386  # nats: what a critic of two kinds pays in an even game, 2 ln 2; half of it where kinds are told apart in pairs
SWING = 1.5  # of the generator's loss, over its size
CROSS_ENTROPIES = ("nonsaturating", "minimax", "relativistic")
FLOORED = ("nonsaturating", "relativistic")  # what the generator descends ends at 0 where it wins
TRAINERS = {"lr", "clip", "ema", "precision"}  # flags that every model has
PENALTIES = ("r1", "r2", "gradient_penalty")
NO_NORM = {"r1", "r2", "spectral_norm"}  # do not combine with batch norm in the critic (docs/duel.md)


class Rule(NamedTuple):
    """What may go wrong, how it is seen, what to do, and for how many rounds a run is too young to be judged by it."""

    see: Callable[[History], str | None]
    what: str
    remedies: tuple[str, ...]  # each stands alone
    young: int = 100

    def remedy(self, fits: Callable[[str], bool] = lambda remedy: True) -> str:
        """What to do, of that what fits the model."""
        return "; ".join(filter(fits, self.remedies))


def fits(remedy: str, model: Game) -> bool:
    """Whether a remedy is one for this model: it has the flags and the players, they go together, and are not weaker than what
    is in force."""
    flags = {flag.replace("-", "_") for flag in re.findall(r"--([a-z0-9-]+)", remedy)}
    players = set(re.findall(r"(\w+)=", remedy))
    critic: Any = getattr(model, "critic", None)
    normed = critic is not None and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())
    relativistic = getattr(model, "loss", "") == "relativistic"
    if re.search(rf"--loss [\w, ]*\b{getattr(model, 'loss', None)}\b", remedy):  # in force already
        return False
    asked = re.findall(r"--([a-z0-9-]+) (\d*\.?\d+)", remedy)
    if any(is_weaker(flag, number, model) for flag, number in asked):
        return False
    if "penalties" in remedy and not any(getattr(model, name, 0) for name in PENALTIES):
        return False
    if "vae-gan" in remedy and getattr(model, "name", "").endswith("vae-gan"):
        return False
    if not flags <= TRAINERS | set(getattr(model, "args", {})) or not players <= set(model.players()):
        return False
    if not all(matters(model, size) for size in flags & SIZES):
        return False
    if relativistic and ("smoothing" in flags or "--loss relativistic --r1" in remedy):
        return False
    return not (normed and flags & NO_NORM) and not flags & set(getattr(model, "refuses", ()))


def is_weaker(flag: str, number: str, model: Game) -> bool:
    """Whether a flag is in force with this number already, or with a larger one."""
    now = getattr(model, flag.replace("-", "_"), None)
    return isinstance(now, int | float) and now >= float(number)


def stuck(values: list[float] | None, low: float) -> bool:
    """Whether a sign stays below `low` and does not rise: one that rises belongs to a run that is young, not sick."""
    return values is not None and max(values) < low and values[-1] < RISING * values[0] + 1e-3


def mode_collapse(h: History) -> str | None:
    diversity, duplicates, coverage = (h.sign(k, 3) for k in ("diversity", "duplicates", "coverage"))
    if h.progress < SETTLED or diversity is None or duplicates is None or coverage is None or not stuck(coverage, 0.2):
        return None
    if stuck(diversity, 0.25):
        return f"samples differ {diversity[-1]:.2f} times as much as real images, and {coverage[-1]:.0%} of those have one near"
    if min(duplicates) > 0.3:
        return f"{duplicates[-1]:.0%} of the samples have a near twin among 256, and {coverage[-1]:.0%} of real images one near"
    return None


def posterior_collapse(h: History) -> str | None:
    active = h.sign("active")
    if h.progress < SETTLED or active is None or max(active) > 0.02:
        return None
    return f"{active[-1]:.0%} of the code's dimensions follow the image"


def dead_decoder(h: History) -> str | None:
    rebuilt, active = h.sign("rebuilt", 3), h.sign("active")
    collapsed = active is not None and max(active) <= 0.02  # a finding of its own
    if h.progress < SETTLED or rebuilt is None or collapsed or not stuck(rebuilt, 0.05):
        return None
    return f"reconstructions vary {rebuilt[-1]:.3f} times as much as their images"


def critic_too_strong(h: History) -> str | None:
    tells, cost, coverage = h.sign("critic_tells"), h.recent(*COSTS), h.sign("coverage", 3)
    if h.progress < SETTLED or tells is None or not nats(h):
        return None
    if min(tells) > 0.995 and cost is not None and cost < 0.05 * EVEN and stuck(coverage, 0.5):
        loss = f"its loss is {cost:.3f} nats (at chance: {even(h):.2f})"
        return f"the critic ranks {tells[-1]:.1%} of real images above a sample; {loss}"
    return None


def critic_too_weak(h: History) -> str | None:
    tells, coverage = h.sign("critic_tells"), h.sign("coverage")
    if h.progress < SETTLED or tells is None or coverage is None:
        return None
    if max(tells) < 0.6 and max(coverage) < 0.05:
        return (
            f"it ranks {tells[-1]:.0%} of real images above a sample, though samples come near {coverage[-1]:.0%} only"
        )
    return None


def critic_loss_falls(h: History) -> str | None:
    now = h.recent(*COSTS)
    if h.loss not in FLOORED or h.progress > 0.3 or now is None or now > 0.01 * EVEN:
        return None
    return f"its losses fell to {now:.4f} nats within {h.progress:.0%} of the budget (at chance: {even(h):.2f})"


def generator_loss_falls(h: History) -> str | None:
    name = logged(h, GENERATORS)
    if name is None or h.loss not in FLOORED or h.progress < 0.05:
        return None
    now = h.recent(name)
    return f"it fell to {now:.4f} nats (critic at chance: {EVEN / 2:.2f})" if now is not None and now < 0.1 else None


def vanishing_gradient(h: History) -> str | None:
    name = logged(h, MOVED)
    if name is None or h.progress < SETTLED or not nats(h):
        return None
    now, before = h.recent(name), h.early(name)
    if now is None or not before or now > 0.02 * before:
        return None
    return f"its norm fell from {before:.2g} to {now:.2g}"


def oscillation(h: History) -> str | None:
    name = logged(h, GENERATORS)
    if name is None or h.progress < 0.3:
        return None
    values = h.lately(0.35, 8, name)
    if not values:
        return None
    ordered = sorted(values)
    middle, swing = ordered[len(ordered) // 2], ordered[-1 - len(ordered) // 10] - ordered[len(ordered) // 10]
    steps = [b - a for a, b in zip(values, values[1:], strict=False) if abs(b - a) > 0.1 * swing]
    turns = sum(a * b < 0 for a, b in zip(steps, steps[1:], strict=False))
    if swing > SWING * max(abs(middle), 0.1) and turns >= 3:
        return f"its loss swings by {swing:.2g} around {middle:.2g}"
    return None


def memorisation(h: History) -> str | None:
    nearest = h.sign("nearest")
    if h.progress < SETTLED or nearest is None or max(nearest) > 0.8:
        return None
    seen = f"{nearest[-1]:.2f} times as far from training images as from unseen images"
    return f"samples lie {seen}; about 1 without memorisation"


def too_few_data(h: History) -> str | None:
    gap, knows = h.sign("gap"), h.sign("critic_knows")
    if h.progress < SETTLED:
        return None
    if gap is not None and min(gap) > 2:
        return f"unseen images are reconstructed with {gap[-1]:.1f} times the error of training images"
    if knows is not None and min(knows) > 0.75:
        return f"the critic ranks {knows[-1]:.0%} of training images above unseen ones"
    return None


def not_finite(h: History) -> str | None:
    if not h.bad_steps:
        return None
    norms = ", ".join(f"{n[9:]} {v:.2g}" for n, v in h.gradients.items())
    last = f"; the last norms: {norms}" if norms else ""
    return f"{h.bad_steps} steps were left out because a gradient was not finite{last}"


def nats(h: History) -> bool:
    """Whether the critic's costs are cross-entropies: an even game costs 2 ln 2."""
    return h.loss in CROSS_ENTROPIES and bool(h.series(*COSTS))


def even(h: History) -> float:
    return EVEN / 2 if h.loss == "relativistic" else EVEN


def logged(h: History, names: tuple[str, ...]) -> str | None:
    return next((n for n in names if h.series(n)), None)


RULES = {
    "mode collapse": Rule(mode_collapse, "the generator covers only a small part of the data",
        ("add --minibatch 16", "add --loss relativistic --r1 .1 --r2 .1", "train a hybrid (vae-gan)", "lower --lr"), 300),
    "posterior collapse": Rule(posterior_collapse, "the latent code carries no information about the image",
        ("add --kl-warmup 100000", "add --free-bits .1", "give a smaller --beta", "lower --lr"), 300),
    "dead decoder": Rule(dead_decoder, "the decoder gives the same image for every code",
        ("lower --lr", "add --clip 1", "check that the images are not all alike"), 300),
    "critic too strong": Rule(critic_too_strong, "the critic recognises every sample, so the generator learns nothing",
        ("add --r1 1", "add --spectral-norm", "add --instance-noise .1",
         "lower the critic's rate: --lr critic=1e-4")),
    "critic too weak": Rule(critic_too_weak, "the critic cannot tell samples from real images although they differ",
        ("raise its rate", "give it more steps: --critic-steps 2", "lower penalties"), 400),
    "critic loss falls fast": Rule(critic_loss_falls, "the critic wins before the generator has learned anything",
        ("lower the critic's rate", "add --r1 1", "add --smoothing .1"), 30),
    "generator loss falls fast": Rule(generator_loss_falls, "the generator exploits a weakness of the critic",
        ("lower the generator's rate", "raise --critic-steps"), 30),
    "vanishing generator gradient": Rule(vanishing_gradient, "the generator's gradient has almost vanished",
        ("use --loss nonsaturating, relativistic or wasserstein", "add --r1 1", "lower the critic's rate")),
    "oscillation": Rule(oscillation, "the losses oscillate",
        ("lower --lr", "add --r1 1", "sample from longer averages: --ema 200000")),
    "memorisation": Rule(memorisation, "samples copy training images",
        ("train on more images", "use fewer channels (--width)", "use fewer hidden units (--hidden)", "train for less long")),
    "too few data": Rule(too_few_data, "the model is overfitting the training images",
        ("add images", "add --augment all", "use fewer channels (--width)", "use fewer hidden units (--hidden)",
         "give a smaller code (--latent-dim)")),
    "not finite": Rule(not_finite, "gradients were not finite",
        ("lower --lr", "set --clip 1", "use --precision fp32"), 0),
}  # fmt: skip
