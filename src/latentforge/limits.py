"""Values held against the typed parameters they are meant for: a wrong one is one line here, and not a traceback from
deep inside torch."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Container
from numbers import Integral, Real
from typing import Any

from latentforge.errors import InputError, suggest
from latentforge.registry import arguments

# Names mean the same in all families, so their limits do too. Every other number is 0 or more. What a class of the
# user's own adds is held against its type alone.
COUNTS = {"image_shape", "latent_dim", "hidden", "critic_hidden", "width", "kernel", "batch_size", "accumulate",
          "checkpoint_every", "critic_steps", "generator_steps", "penalty_every", "boosted_steps", "features", "particles",
          "noise_dim", "generator_hidden", "classifier_hidden", "first_dim", "gan_rounds", "vae_rounds"}  # fmt: skip
POSITIVE = {"sigma", "clip", "tau", "unroll_rate", "descriptor_stddev"}
SHARES = {"smoothing", "label_noise", "generator_dropout", "drop", "tolerance"}  # below 1
SIGNED = {"seed", "prior_mean", "prior_scale", "descriptor_mean"}
OPTIONAL = {"descriptor_mean", "descriptor_stddev", "wide"}  # lists that may be empty
BUDGET = ("epochs", "examples", "minutes")  # `schedules.budget` has its own words


def check(function: Any, values: dict[str, Any], where: str = "") -> None:
    """InputError where a value has no parameter, is not of its type, or is out of range. `where` begins the message."""
    known, limited = arguments(function), limited_by_name(function)
    for name, value in values.items():
        if name not in known:
            raise InputError(f"{where}there is no setting '{name}'.{suggest(name, known)}")
        if value is None and known[name].default is None:  # as in `width: int = None`
            continue
        wrong = fault(name if name in limited else "", known[name].annotation, value)
        if wrong:
            raise InputError(f"{where}--{name.replace('_', '-')} {as_typed(value)}: {wrong}.")


def limited_by_name(function: Any) -> Container[str]:
    """The parameters whose names set their limits: all but those that a class from outside of the package adds."""
    if not inspect.isclass(function):
        return arguments(function)
    ours = [c for c in function.__mro__ if c.__module__.startswith("latentforge.")]
    return arguments(ours[0]) if ours else {}


def fault(name: str, annotation: Any, value: Any) -> str:
    """What to give instead of `value`; '' where it will do. Without a name a value has no limits."""
    kinds = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = list(typing.get_args(annotation))
    if value is None:
        return "" if type(None) in kinds else "a value is needed"
    found = [one_fault(name, kind, value) for kind in kinds if kind is not type(None)]
    return "" if "" in found else found[-1]


def one_fault(name: str, kind: Any, value: Any) -> str:
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return "" if value in inner else f"not possible.{suggest(str(value), map(str, inner))}".removesuffix(".")
    if typing.get_origin(kind) is tuple:
        some = ... in inner
        if isinstance(value, tuple | list) and not value and (not name or name in OPTIONAL):
            return ""
        if not isinstance(value, tuple | list) or not value or (not some and len(value) != len(inner)):
            return f"give {'numbers' if some else f'{len(inner)} numbers'}, as in 512,256"
        return next((w for v in value if (w := one_fault(name, inner[0], v))), "")
    if kind is int and (not isinstance(value, Integral) or isinstance(value, bool)):
        return "give a whole number"
    if kind is float and (not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value)):
        return "" if name in BUDGET and isinstance(value, Real) else "give a number"
    if kind in (bool, str) and not isinstance(value, kind):
        return "give true or false" if kind is bool else "give text"
    if kind not in (int, float) or not name or name in BUDGET or name in SIGNED:
        return ""
    if name in COUNTS:
        return "" if value >= 1 else "give 1 or more"
    if name in SHARES and value >= 1:
        return "give a number from 0 to below 1"
    if name in POSITIVE:
        return "" if value > 0 else "give a number above 0"
    return "" if value >= 0 else "give 0 or more"


def as_typed(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return " ".join(text.split())[:80]
