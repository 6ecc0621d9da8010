"""The models by name. The table is static, so that `--help` and `models` import no torch; a test holds it against
the decorators."""

from __future__ import annotations

import functools
import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from latentforge.errors import InputError, suggest


@dataclass(frozen=True)
class Entry:
    module: str
    cls: str
    kind: str  # autoencoder, vae, gan or hybrid
    summary: str
    paper: str


MODELS = {
    "autoencoder": Entry(
        "autoencoder", "Autoencoder", "autoencoder",
        "Compress images to a code and back; dense or convolutional.",
        "Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647",
    ),
    "vae": Entry(
        "vae", "VAE", "vae",
        "Autoencoder whose codes follow a prior, so that it can sample; beta, free bits, any Gaussian prior.",
        "Kingma & Welling 2014, arXiv:1312.6114",
    ),
    "gan": Entry(
        "gan", "GAN", "gan",
        "A generator against a critic, both dense.",
        "Goodfellow et al. 2014, arXiv:1406.2661",
    ),
    "dcgan": Entry(
        "dcgan", "DCGAN", "gan",
        "The same game with convolutional networks.",
        "Radford, Metz & Chintala 2016, arXiv:1511.06434",
    ),
    "vae-gan": Entry(
        "vae_gan", "VAEGAN", "hybrid",
        "A VAE whose decoder also plays against a critic that lends it its features as a measure of likeness.",
        "Larsen et al. 2016, arXiv:1512.09300",
    ),
}  # fmt: skip


def list_models() -> list[str]:
    """The registered names."""
    return list(MODELS)


def entry(name: str) -> Entry:
    """The table's row for `name`; InputError with a suggestion where there is none."""
    if name not in MODELS:
        raise InputError(f"there is no model '{name}'.{suggest(name, MODELS)}")
    return MODELS[name]


def model_class(name: str) -> Any:
    """The class behind `name`; imports torch."""
    row = entry(name)
    return getattr(import_module(f"latentforge.models.{row.module}"), row.cls)


def register(name: str):
    """Class decorator of a family: remembers the resolved constructor arguments in `self.args`, which are the config."""

    def decorate(cls):
        init = cls.__init__
        signature = inspect.signature(init)

        @functools.wraps(init)
        def wrapped(self, *args, **kwargs):
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            init(self, *args, **kwargs)
            self.args = {k: tuple(v) if isinstance(v, list) else v for k, v in list(bound.arguments.items())[1:]}

        cls.__init__ = wrapped
        cls.name = name
        return cls

    return decorate


def arguments(function: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a function or constructor, without self."""
    target = function.__init__ if inspect.isclass(function) else function
    return {k: p for k, p in inspect.signature(target, eval_str=True).parameters.items() if k != "self"}


def argument_help(function: Any) -> dict[str, str]:
    """The lines of the docstring's `Args:` section by parameter name."""
    doc = inspect.getdoc(function) or ""
    _, _, section = doc.partition("Args:\n")
    return {k: " ".join(v.split()) for k, v in re.findall(r"^ {4}(\w+): (.*(?:\n {6,}.*)*)", section, re.MULTILINE)}


def describe(name: str) -> dict[str, Any]:
    """What a model is: kind, summary, paper, and its arguments with default and help."""
    row, cls = entry(name), model_class(name)
    helps = argument_help(cls)
    rows = {
        k: {"default": None if p.default is p.empty else p.default, "help": helps.get(k, "")}
        for k, p in arguments(cls).items()
    }
    return {"name": name, "kind": row.kind, "summary": row.summary, "paper": row.paper, "arguments": rows}


def create(name: str, **kwargs: Any) -> Any:
    """A fresh model. Unknown names and arguments raise InputError with the nearest right one."""
    cls = model_class(name)
    known = arguments(cls)
    for key in kwargs:
        if key not in known:
            raise InputError(f"{name} has no argument '{key}'.{suggest(key, known)}")
    missing = [k for k, p in known.items() if p.default is p.empty and k not in kwargs]
    if missing:
        raise InputError(f"{name} needs {', '.join(missing)}, for example image_shape=(1, 28, 28).")
    from latentforge.limits import check

    check(cls, kwargs, f"{name}: ")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()})
