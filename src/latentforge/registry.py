"""The models by name. The table is static, so that `--help` and `models` import no torch; a test holds it against
the decorators."""

from __future__ import annotations

import functools
import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentforge.errors import InputError, suggest

if TYPE_CHECKING:
    from latentforge.game import Game


@dataclass(frozen=True)
class Entry:
    module: str  # of latentforge.models; its whole name where it is from elsewhere
    cls: str
    kind: str  # autoencoder, vae, gan, hybrid or restorer
    summary: str
    paper: str
    own: Any = None  # the class itself, of a model of the user's own that `register` has put here


MODELS = {
    "autoencoder": Entry(
        "autoencoder", "Autoencoder", "autoencoder",
        "Compress images to a code and back; dense or convolutional.",
        "Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647",
    ),
    "denoising-autoencoder": Entry(
        "denoising_autoencoder", "DenoisingAutoencoder", "autoencoder",
        "Reconstruct images from noisy, masked, blurred or low-contrast ones.",
        "Vincent et al. 2008, doi:10.1145/1390156.1390294",
    ),
    "aae": Entry(
        "aae", "AAE", "hybrid",
        "An autoencoder whose codes a critic pulls towards the prior.",
        "Makhzani et al. 2016, arXiv:1511.05644",
    ),
    "vae": Entry(
        "vae", "VAE", "vae",
        "Autoencoder whose codes follow a prior, so that it can sample; beta-VAE, free bits, any Gaussian prior.",
        "Kingma & Welling 2014, arXiv:1312.6114",
    ),
    "denoising-vae": Entry(
        "denoising_vae", "DenoisingVAE", "vae",
        "A VAE that reconstructs images from noisy ones.",
        "Im et al. 2017, arXiv:1511.06406",
    ),
    "cvae": Entry(
        "cvae", "CVAE", "vae",
        "A VAE conditioned on a class or a numeric descriptor; samples what is asked for.",
        "Sohn, Lee & Yan 2015, NeurIPS 28",
    ),
    "iwae": Entry(
        "iwae", "IWAE", "vae",
        "A VAE with a tighter bound, from several codes per image.",
        "Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519",
    ),
    "gan": Entry(
        "gan", "GAN", "gan",
        "A generator against a critic, both dense.",
        "Goodfellow et al. 2014, arXiv:1406.2661",
    ),
    "dcgan": Entry(
        "dcgan", "DCGAN", "gan",
        "A generator against a critic, both convolutional.",
        "Radford, Metz & Chintala 2016, arXiv:1511.06434",
    ),
    "wgan": Entry(
        "wgan", "WGAN", "gan",
        "The critic estimates a distance to the data; its weights are clipped.",
        "Arjovsky, Chintala & Bottou 2017, arXiv:1701.07875",
    ),
    "wgan-gp": Entry(
        "wgan_gp", "WGANGP", "gan",
        "A Wasserstein critic kept smooth by a penalty on its gradient instead of clipping.",
        "Gulrajani et al. 2017, arXiv:1704.00028",
    ),
    "r3gan": Entry(
        "r3gan", "R3GAN", "gan",
        "The critic compares real and generated images in pairs, with two gradient penalties.",
        "Huang et al. 2024, arXiv:2501.05441",
    ),
    "began": Entry(
        "began", "BEGAN", "gan",
        "The critic is an autoencoder; a balance trades diversity for quality.",
        "Berthelot, Schumm & Metz 2017, arXiv:1703.10717",
    ),
    "unrolled-gan": Entry(
        "unrolled_gan", "UnrolledGAN", "gan",
        "The generator looks several critic steps ahead.",
        "Metz et al. 2017, arXiv:1611.02163",
    ),
    "cgan": Entry(
        "cgan", "CGAN", "gan",
        "A GAN conditioned on the class; samples what is asked for.",
        "Mirza & Osindero 2014, arXiv:1411.1784",
    ),
    "bigan": Entry(
        "bigan", "BiGAN", "hybrid",
        "A GAN that learns to encode: the critic judges pairs of image and code (ALI).",
        "Donahue, Krähenbühl & Darrell 2017, arXiv:1605.09782",
    ),
    "vae-gan": Entry(
        "vae_gan", "VAEGAN", "hybrid",
        "A VAE first; then its decoder is trained against a critic while the encoder is frozen.",
        "after Larsen et al. 2016, arXiv:1512.09300; games of arXiv:2501.05441 and arXiv:1511.06434",
    ),
    "larsen-vae-gan": Entry(
        "larsen_vae_gan", "LarsenVAEGAN", "hybrid",
        "A VAE whose decoder is also trained against a critic, whose features measure the reconstruction error.",
        "Larsen et al. 2016, arXiv:1512.09300",
    ),
    "cvae-gan": Entry(
        "cvae_gan", "CVAEGAN", "hybrid",
        "A VAE-GAN conditioned on the class; samples what is asked for.",
        "Bao et al. 2017, arXiv:1703.10155",
    ),
    "joint-vae-gan": Entry(
        "joint_vae_gan", "JointVAEGAN", "hybrid",
        "A VAE and, in alternating phases, a GAN that learns its prior (article 000).",
        "article 000, see docs/articles.md",
    ),
    "restorer": Entry(
        "restorer", "Restorer", "restorer",
        "Clean images from noisy, blurred, small, incomplete or low-contrast ones; a U-Net, optionally with a critic.",
        "after Ronneberger, Fischer & Brox 2015, arXiv:1505.04597, and articles 001 and 002",
    ),
    "ssl-vae": Entry(
        "ssl_vae", "SSLVAE", "vae",
        "Learns to classify from few labels: the class is a latent variable (M2, M1+M2).",
        "Kingma et al. 2014, arXiv:1406.5298",
    ),
    "ssl-gan": Entry(
        "ssl_gan", "SSLGAN", "gan",
        "Learns to classify from few labels: the critic predicts the class, or that the image is generated.",
        "Salimans et al. 2016, arXiv:1606.03498",
    ),
    "ssl-vae-gan": Entry(
        "ssl_vae_gan", "SSLVAEGAN", "hybrid",
        "Learns to classify from few labels: the critic of ssl-gan beside a VAE, whose decoder is the generator "
        "(article 002).",
        "article 002, see docs/articles.md, and Salimans et al. 2016, arXiv:1606.03498",
    ),
}  # fmt: skip
OURS = frozenset(MODELS)
# arguments that are sizes of networks, each of some kinds of layers only
SIZES = {"hidden", "critic_hidden", "generator_hidden", "classifier_hidden", "width", "critic_width", "kernel", "wide"}
KINDS = {"autoencoder": "autoencoders", "vae": "VAEs", "gan": "GANs", "hybrid": "hybrids of the two",
         "restorer": "restorers, which draw nothing new"}  # fmt: skip


def list_models() -> list[str]:
    """The registered names."""
    return list(MODELS)


def entry(name: str, own: str | None = None) -> Entry:
    """The table's row for `name`; InputError with a suggestion where there is none. `own`: the class of a model of the
    user's own, as a file of it names it."""
    if name not in MODELS:
        if own:
            raise InputError(
                f"'{name}' is a class of your own, {own}; in Python, import or define that before loading it."
            )
        raise InputError(f"there is no model '{name}'.{suggest(name, MODELS)}")
    return MODELS[name]


def model_class(name: str) -> Any:
    """The class behind `name`; imports torch."""
    row = entry(name)
    if row.own is not None:
        return row.own
    return getattr(import_module(f"latentforge.models.{row.module}" if name in OURS else row.module), row.cls)


def home(model: Any) -> dict[str, str]:
    """The class of a model of the user's own, for files of it; nothing of a model of this package."""
    cls = type(model)
    return {} if model.name in OURS else {"class": f"{cls.__module__}.{cls.__qualname__}"}


def named(model: Any, purpose: str) -> str:
    """The name under which a model can be built again. InputError where it has none, as a class of the user's own that is not
    in the table, or one that has its name from the model it was derived from."""
    name = getattr(model, "name", None)
    if name in MODELS and type(model) is model_class(name):
        return name
    own = type(model).__name__
    row = MODELS.get(str(name))
    if row is not None and row.own is not None and row.cls == type(model).__qualname__:
        raise InputError(f"{own} was defined again since this model was created, so {purpose}; create it anew.")
    raise InputError(
        f"{own} has no name of its own in the table of models, so {purpose}; decorate the class with "
        "@lf.register(NAME, KIND), as in @lf.register('my-gan', 'gan')."
    )


def register(name: str, kind: str | None = None, summary: str = "", paper: str = ""):
    """Class decorator of a model: remembers the resolved constructor arguments in `self.args`, which are the config. With
    a kind (autoencoder, vae, gan, hybrid or restorer) the class is in the table of models from then on, so that `create`
    and `load` find it by its name; defining it again replaces it. summary: what it is; by default the first line of its
    docstring. InputError for a name that a model of this package has, and for a kind that there is not."""
    if kind is not None and name in OURS:
        raise InputError(f"'{name}' is a model of latentforge; give yours another name.")
    if kind is not None and kind not in KINDS:
        raise InputError(f"'{kind}' is no kind of model.{suggest(kind, KINDS)}")

    def decorate(cls):
        init = cls.__init__
        signature = inspect.signature(init)

        @functools.wraps(init)
        def wrapped(self, *args, **kwargs):
            given = signature.bind(self, *args, **kwargs).arguments
            given |= next(
                (given.pop(k) for k, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD and k in given), {}
            )
            init(self, *args, **kwargs)
            values = {k: given.get(k, p.default) for k, p in arguments(cls).items()}
            values = {k: getattr(self, k, None) if v is None else v for k, v in values.items()}  # what None came to
            self.args = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}

        cls.__init__ = wrapped
        cls.name = name
        if kind is not None:
            first = summary or inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
            MODELS[name] = Entry(cls.__module__, cls.__qualname__, kind, first, paper, cls)
        return cls

    return decorate


def arguments(function: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a function or constructor, without self. A constructor's `**options` stands for the
    parameters of the next class's constructor, which it hands them to; its own defaults win. Names that begin with an
    underscore are between classes."""
    if not inspect.isclass(function):
        return dict(inspect.signature(function, eval_str=True).parameters)
    out: dict[str, inspect.Parameter] = {}
    for init in (c.__dict__["__init__"] for c in function.__mro__ if "__init__" in c.__dict__):
        own = inspect.signature(init, eval_str=True).parameters
        named = {k: p for k, p in own.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        out |= {k: p for k, p in named.items() if k not in out and k != "self" and not k.startswith("_")}
        if all(p.kind is not p.VAR_KEYWORD for p in own.values()):
            break
    return out


def argument_help(function: Any) -> dict[str, str]:
    """The lines of the docstring's `Args:` section by parameter name; a class's own before those of its bases."""
    out: dict[str, str] = {}
    for thing in function.__mro__ if inspect.isclass(function) else [function]:
        _, _, section = (inspect.cleandoc(thing.__doc__ or "")).partition("Args:\n")
        found = re.findall(r"^ {4}(\w+): (.*(?:\n {6,}.*)*)", section, re.MULTILINE)
        out |= {k: " ".join(v.split()) for k, v in found if k not in out}
    return out


def describe(name: str) -> dict[str, Any]:
    """What a model is: kind, summary, paper, and its arguments with default and help."""
    row, cls = entry(name), model_class(name)
    helps = argument_help(cls)
    rows = {
        k: {"default": None if p.default is p.empty else p.default, "help": helps.get(k, "")}
        for k, p in arguments(cls).items()
    }
    return {"name": name, "kind": row.kind, "summary": row.summary, "paper": row.paper, "arguments": rows}


def create(name: str, **kwargs: Any) -> Game:
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
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()})
    except InputError:
        raise
    except (ValueError, RuntimeError) as error:  # the family's own limits, and weights larger than the memory
        from latentforge.data.decode import reason

        # the families' own words say what is wrong, options or size; torch's need the size beside them
        of = "" if isinstance(error, ValueError) else f" for images of shape {kwargs.get('image_shape')}"
        raise InputError(f"{name} cannot be built{of}: {reason(error)}.") from None


def matters(model: Game, size: str) -> bool:
    """Whether the networks of this model depend on a size of `SIZES`, as dense ones do not on `width`: built with another,
    they would differ. True for any class of the user's own, whose layers need not show what its arguments do."""
    value = model.args.get(size)
    if model.name not in OURS or value is None:
        return True
    from latentforge.clock import seeded

    other = value + 1 if isinstance(value, int) else tuple(v + 1 for v in value) or (8,)
    with seeded():
        try:
            return str(create(model.name, **model.args | {size: other})) != str(model)
        except InputError:  # as a kernel that would be larger than the image
            return True
