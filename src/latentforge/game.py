"""The game among players: what a model is.

A model names its players (encoder, decoder, critic ...), each owning modules, and writes one round of training as a
generator, `play(data, t)`, that yields moves: dicts from player to scalar loss. Names in one yield step together,
separate yields step in turn, and code after a yield sees the stepped weights. Order, frequency, warm-up, clamping and
sitting out are ordinary Python in the model. The trainer (`train.py`) does the rest and knows no model by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from latentforge.clock import Clock, mix, seeded
from latentforge.data.batch import Batch, Images, at_once, in_parts
from latentforge.errors import InputError, RunError
from latentforge.nets.condition import Condition, Plane
from latentforge.nets.conv import layout
from latentforge.parts.noise import Noise, draw_noise, uniform_log_density
from latentforge.schedules import Schedule

Move = dict[str, Tensor]


@dataclass(frozen=True)
class Seat:
    """Optimiser settings of one player. The trainer's options replace single fields of it."""

    lr: float = 1e-3
    optimizer: str = "adam"  # sgd, momentum, adagrad, rmsprop, adam or adamw
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's; the first is also the momentum of `momentum`
    weight_decay: float = 0.0
    clip: float | None = None  # largest gradient norm of the player, None for no clipping
    ema: float | None = 10_000  # half-life of the weights' moving average in examples, None for no average
    span: tuple[float, float] = (0.0, 1.0)  # shares of the budget between which the schedule runs


@dataclass(frozen=True)
class Term:
    """One term of an objective, for people: whose loss it is in, the formula, its weight."""

    player: str
    formula: str
    weight: float = 1.0


def frozen(module: nn.Module):
    """`module` as a function that another player may call: gradients pass through to the input, its weights are
    constants, and its buffers (BatchNorm statistics, spectral norm vectors, codebooks) are copies that may change
    without a trace."""
    state = {name: p.detach() for name, p in module.named_parameters()}
    state |= {name: b.clone() for name, b in module.named_buffers()}
    return lambda *args, **kwargs: functional_call(module, state, args, kwargs)


def leave_out(move: Move, *names: str) -> Move:
    """The move without the players in `names`, which are not updated this time."""
    return {name: loss for name, loss in move.items() if name not in names}


def own_parameters(model: Game) -> dict[str, list[nn.Parameter]]:
    """Each player's trainable parameters. Every one belongs to one player, or is declared shared."""
    names = {id(p): k for k, p in model.named_parameters() if p.requires_grad}
    out: dict[str, list[nn.Parameter]] = {}
    owner: dict[int, str] = {}
    for player, modules in model.players().items():
        own = {id(p): p for m in modules for p in m.parameters() if p.requires_grad}
        for key in own:
            if key in owner and not any(names[key].startswith(s) for s in model.shared):
                raise RunError(f"{names[key]} belongs to both {owner[key]} and {player}; declare it in `shared`.")
            owner[key] = player
        if not own:
            raise InputError(
                f"all weights of the {player} are fixed (requires_grad is False); free some, or leave it out of players()."
            )
        out[player] = list(own.values())
    lost = [k for key, k in names.items() if key not in owner]
    if lost:
        raise RunError(
            f"no player owns {', '.join(lost[:3])}; add its module to players(), or set requires_grad_(False)."
        )
    return out


@contextmanager
def uncompiled(module: nn.Module) -> Iterator[None]:
    """Inside the block the module runs as written: gradients of gradients do not pass a compiled one."""
    compiled, module._compiled_call_impl = module._compiled_call_impl, None
    try:
        yield
    finally:
        module._compiled_call_impl = compiled


def compile_networks(model: Game) -> None:
    """torch.compile every module of every player, in place: the names of their weights stay. A move may go back through one
    pass several times, once for each loss, so that buffers of the way back may not be given away."""
    from torch._functorch import config

    config.donated_buffer = False
    for modules in model.players().values():
        for m in modules:
            m.compile()


class Probe(nn.Module):
    """What is compiled to see whether anything can be."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp() + x


def need_compiler(device: torch.device) -> None:
    """InputError where torch.compile does not work: it needs a compiler, which Windows and macOS come without."""
    probe = Probe()
    try:
        probe.compile()
        probe(torch.ones(8, device=device))
    except RuntimeError as error:
        cause = getattr(error, "inner_exception", error)
        why = (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")
        raise InputError(f"--compile on: {why}; leave it out, in the config.yaml of a run too.") from None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards each module is in the mode that it was in."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


def generator_of(seed: int | None, salt: int) -> torch.Generator:
    """A generator of random numbers on the CPU, from a seed or from the system."""
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(mix(seed, salt))
    return generator


class Game(nn.Module):
    """Base of every model. Images cross its public methods as float (B, C, H, W) in [0, 1]; inside, networks use
    `pixel_range`. B batch, C channels, H height, W width, Z latent size."""

    # -- a family sets
    image_shape: tuple[int, int, int]
    latent_dim: int
    shared: ClassVar[set[str]] = set()  # parameter-name prefixes that two players may both move
    # True where the parts of a batch do not add up to the gradient of the whole (batch norm, minibatch statistics, dropout,
    # spectral norm)
    batch_coupled: bool = False
    pixel_range: tuple[float, float] = (0.0, 1.0)  # of `generate` and of what the networks are fed
    batch_size: int = 128  # unless the trainer is told another
    schedule: Schedule = "constant"  # of the learning rates, unless the trainer is told another
    seat: ClassVar[Seat] = Seat()  # of all players, where `seats` does not tell them apart
    half_pays: ClassVar[bool] = False  # bfloat16 is faster on a processor that has it
    begins: tuple[float, ...] = ()  # shares of the budget at which the stages after the first begin
    converged: bool = False  # True ends the training before its budget; set in `settle`, alike on all processes
    unworried: ClassVar[tuple[str, ...]] = ()  # findings of the doctor that belong to the game
    refuses: ClassVar[tuple[str, ...]] = ()  # options of its base that a family has no use for
    has_prior: bool = True  # False where only a fitted sampler can draw codes
    has_prior_density: bool = True  # False where the prior can only be drawn from
    sampler_kind: str = "prior"  # what codes are drawn from, unless the trainer is told another

    # -- the registry sets
    name: ClassVar[str]  # under which the model is registered
    args: dict[str, Any]  # resolved constructor arguments: they are the config

    # -- training and loading set
    trained_on: str | None = None
    data_fingerprint: str | None = None  # of the data set it was trained on as it was cut then, where a run kept it
    classes: list[str] | None = None  # names of the classes it was trained on, where they have any but numbers
    loaded_args: dict[str, Any] | None = None  # as the file has them that it was loaded from: an older class had fewer
    # images per forward pass in training; a critic that compares images is asked in as many
    part_size: int | None = None
    sampler: Any  # a density over codes fitted in `finish`; None means the prior
    sampler_chosen: bool = False  # whether the density is fitted, or the prior was chosen, which leaves no sampler

    # -- `be_told` and the restorer set
    condition: Condition | None  # what the model is told of an image (a label, a descriptor); None for nothing
    plane: Any  # appends what the model is told of an image to it, as one more channel
    operator: Any  # what a restorer was trained to undo (latentforge.parts.operators)

    def __init__(self) -> None:
        super().__init__()
        self.register_module("sampler", None)
        self.register_module("condition", None)
        self.register_module("plane", None)
        # mean log density, nats, of validation codes under each sampler that was compared
        self.sampler_scores: dict[str, float] = {}

    def be_told(
        self, condition: Condition | None, image_shape: tuple[int, int, int]
    ) -> tuple[tuple[int, int, int], int]:
        """Condition the model. Returns the shape of what its encoder is shown, and by how much its codes grow."""
        if condition is None:
            return image_shape, 0
        c, h, w = image_shape
        self.condition, self.plane = condition, Plane(condition.size, image_shape)
        return (c + 1, h, w), condition.size

    # -- what a family writes ------------------------------------------------------------------------------------
    def players(self) -> dict[str, list[nn.Module]]:
        """The modules each player owns. Every trainable parameter belongs to exactly one player, `shared` aside."""
        raise TypeError(f"{type(self).__name__} must define players()")

    def seats(self) -> dict[str, Seat]:
        """How each player steps; the defaults of the model's paper."""
        return dict.fromkeys(self.players(), self.seat)

    def play(self, data: Iterator[Batch], t: Clock) -> Iterator[Move]:
        """One round of training."""
        raise TypeError(f"{type(self).__name__} must define play()")

    def settle(self, t: Clock) -> None:
        """Once per round, after its last move: the only place that writes persistent state (gates, schedules)."""

    def enter(self, stage: int, data: Images, held: Images) -> None:
        """Between two rounds, on the averaged weights, when a stage after the first begins (`t.stage` counts from 0)."""

    def finish(self, data: Images, held: Images) -> None:
        """Once, after the last round, on the averaged weights: fit what sampling needs, unless a stage did."""
        if not self.sampler_chosen:
            self.fit_sampler(data, held)

    def fit_sampler(self, data: Images, held: Images) -> None:
        """Fit the density that codes are drawn from to those of the training images. `held` are the validation images,
        by whose codes `auto` chooses."""
        self.sampler_chosen = True
        if self.sampler_kind != "prior":
            from latentforge import samplers

            told = data.labels if self.condition is not None and self.condition.classes else None
            codes, labels = self.codes_of(data, samplers.rows_to_fit(len(data), told))
            rest, rest_labels = self.codes_of(held, held.spread(samplers.HELD))
            known = self.has_prior and self.has_prior_density
            prior = (lambda z: self.log_prior(z.to(self.device))) if known else None
            classes = 0 if labels is None or self.condition is None else self.condition.size
            sampler = samplers.fit(
                self.sampler_kind, codes, rest, labels, rest_labels, prior, self.sampler_scores, classes
            )
            self.sampler = None if sampler is None else sampler.to(self.device)

    @classmethod
    def suited_to(cls, data: Images, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments that follow from the training images, and from those that are given, where they are not given; none unless
        a family says otherwise."""
        return {}

    def meet(self, data: Images) -> None:
        """What a model has to know of the training images before the first round: how their labels are distributed, where it
        is told them."""
        if self.condition is not None:
            if data.labels is None:
                raise InputError(
                    f"{self.name} is conditioned on labels, and these images have none; use folders named by class."
                )
            self.condition.learn(data.labels)

    def leave(self) -> None:
        """After the last round: let go of what `meet` kept of the training images, so that a trained model carries none."""

    @torch.no_grad()
    def codes_of(self, data: Images, rows: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One code (N, Z) of each image, or of those at `rows` (N,), on the CPU, and its class (N,) where the model is
        conditioned on classes."""
        with evaluating(self):
            batches = data.batches(rows=rows)
            codes = torch.cat([self.encode(b.image.to(self.device), self.labels_of(b)).sample().cpu() for b in batches])
        if data.labels is None or self.condition is None or not self.condition.classes:
            return codes, None
        labels = data.labels.cpu()
        return codes, labels if rows is None else labels[rows]

    def objective(self) -> list[list[Term]]:
        """The moves of one round as `latentforge explain` shows them: each a list of terms, in the order of `play`."""
        raise TypeError(f"{type(self).__name__} must define objective()")

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Per-example measures (B,), named with their unit. Called without gradients, in eval mode, seeded."""
        raise TypeError(f"{type(self).__name__} must define evaluate()")

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in `pixel_range` from codes (B, Z); differentiable, for `play` and losses of your own."""
        raise TypeError(f"{type(self).__name__} must define generate()")

    @property
    def prior_noise(self) -> Noise:
        """What codes of the prior are, uniform in [-1, 1] or standard normal; a family may leave the choice to the user."""
        return "normal"

    def draw_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, Z) codes from the prior: `prior_noise` unless the family says otherwise."""
        return draw_noise(self.prior_noise, generator, n, self.latent_dim)

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z), (N,) nats, of codes (N, Z), under `prior_noise` unless the family says otherwise."""
        if self.prior_noise == "uniform":
            return uniform_log_density(z)
        return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))

    def log_base(self, u: Tensor) -> Tensor:
        """log density, (N,) nats, of the prior where the posterior is Gaussian: of u, for squashed codes z = 2 Phi(u) - 1; for
        all others this is `log_prior`."""
        return self.log_prior(u)

    def reconstruction_nll(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """-log p(x | z, y), (B,) nats, of images (B, C, H, W) in [0, 1]."""
        raise TypeError(f"{type(self).__name__} has no likelihood")

    def encode(self, image: Tensor, y: Tensor | None = None) -> Any:
        """The posterior over codes of images in [0, 1]: `.mean`, `.stddev` (B, Z) and `.sample()`. `y` is what a
        conditional model is told of them; None leaves it out. InputError of a model without an encoder."""
        from latentforge.tasks.encode import no_encoder

        raise no_encoder(getattr(self, "name", type(self).__name__))

    def critic_eyes(self) -> tuple[nn.Module, nn.Module | None]:
        """The layers of the critic that look at one image alone, before anything is judged or compared, and the module that
        appends to it, as a channel, what it is said to be (B, size); None where the critic is not told that way."""
        raise InputError(
            f"{self.name} has no critic of images; train one that has: dcgan, r3gan, vae-gan or larsen-vae-gan."
        )

    def restore(self, seen: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Clean images (B, C, H, W) in [0, 1] from observations under the operator that the model was trained for, of
        `size` (H, W) where that does not follow from them."""
        raise TypeError(f"{type(self).__name__} was not trained to restore")

    # -- what every model can do -----------------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def to(self, *args: Any, **options: Any) -> Self:
        """torch's own; on Apple's GPU weights then lie as `layout` says, those of a trained model too."""
        super().to(*args, **options)
        if layout(self.device) == torch.contiguous_format:
            super().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return self

    @property
    def can_sample(self) -> bool:
        """False where there is neither a prior nor a fitted sampler to draw codes from."""
        return self.has_prior or self.sampler is not None

    def labels_of(self, batch: Batch, t: Clock | None = None) -> Tensor | None:
        """What a conditional model is told of a batch, on its device; None for other models. With the clock of a round,
        a share of it is dropped, so that the model learns to do without."""
        if self.condition is None:
            return None
        if batch.label is None:
            if t is not None:
                raise InputError(f"{self.name} is conditioned on labels, and these images have none.")
            self.condition.check_drop(True)
            return None
        y = batch.label.to(self.device)
        if t is not None:
            return self.condition.drop_some(y, t)
        self.condition.check(y)
        return y

    def told_with(self, batch: Batch) -> Tensor | None:
        """What the decoder has to be told beside the codes of a batch: its labels, or what the model makes of the images
        itself; None for models that are told nothing."""
        return self.labels_of(batch)

    def show(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Images (B, C, H, W) with what is known of them as one more channel, where the model is conditional."""
        return x if self.condition is None else self.plane(x, self.condition(y, len(x)))

    def tell(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Codes (B, Z) with what is known of the image appended, where the model is conditional."""
        return z if self.condition is None else torch.cat([z, self.condition(y, len(z))], 1)

    @property
    def has_likelihood(self) -> bool:
        """Whether log p(x) can be bounded: images have a density given a code, and codes have one."""
        return type(self).reconstruction_nll is not Game.reconstruction_nll and self.has_prior_density

    @property
    def has_decoder(self) -> bool:
        return type(self).generate is not Game.generate

    @property
    def has_restorer(self) -> bool:
        return type(self).restore is not Game.restore

    @property
    def has_encoder(self) -> bool:
        return type(self).encode is not Game.encode

    def to_network(self, image: Tensor) -> Tensor:
        """[0, 1] -> `pixel_range`."""
        low, high = self.pixel_range
        return image if (low, high) == (0.0, 1.0) else image * (high - low) + low

    def to_unit(self, image: Tensor) -> Tensor:
        """`pixel_range` -> [0, 1]."""
        low, high = self.pixel_range
        return image.float() if (low, high) == (0.0, 1.0) else (image.float() - low) / (high - low)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None, batch: int | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] from codes (B, Z), in eval mode, `batch` at once: by default at most 256, fewer
        where images are large. `y` (B, ...) is what a conditional model is told of each. No gradient reaches `z`: the
        differentiable way is `to_unit(generate(z, y))`. InputError where `y` is not what the model can be told, or
        there is no decoder."""
        if not self.has_decoder:
            name = getattr(self, "name", type(self).__name__)
            raise InputError(f"{name} makes no images from codes; train a model that samples, such as vae-gan.")
        batch = batch or at_once(self.image_shape, 256)
        if y is not None and self.condition is not None:
            self.condition.check(y)
        with evaluating(self):
            pairs = in_parts(z, None if y is None else y.to(self.device), batch)
            return torch.cat([self.to_unit(self.generate(c.to(self.device), k)) for c, k in pairs]).clamp_(0, 1)

    @torch.no_grad()
    def mean_codes(self, image: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, Z) posterior means of images (B, C, H, W) in [0, 1], in eval mode and bounded memory."""
        with evaluating(self):
            pairs = in_parts(image, None if y is None else y.to(self.device), at_once(self.image_shape, 256))
            return torch.cat([self.encode(x.to(self.device), k).mean for x, k in pairs])

    def reconstruct(self, image: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode the posterior mean: images (B, C, H, W) in [0, 1] to the same."""
        return self.decode(self.mean_codes(image, y), y)

    def draw_labels(self, n: int, label: Any = None, seed: int | None = None) -> Tensor | None:
        """What n samples are to show: (n,) classes or (n, D) descriptors. `label`: one for all, or n of them; -1 or
        "none" tells the model nothing; None draws them as frequent as in training. None for models without a condition."""
        if self.condition is None:
            if label is not None:
                raise InputError(
                    f"{self.name} was not conditioned on labels in training; train cvae, cgan or cvae-gan for that."
                )
            return None
        if label is not None:
            return self.condition.asked(label, n)
        return self.condition.draw(n, generator_of(seed, 0x1ABE1))

    @torch.no_grad()
    def draw_codes(self, n: int, seed: int | None = None, y: Tensor | None = None) -> Tensor:
        """(n, Z) codes from the fitted sampler, or from the prior where none is fitted."""
        generator = generator_of(seed, 0x5A4D)
        if self.sampler is not None:
            if self.condition is None or not self.condition.classes:
                return self.sampler.draw(n, generator)
            any_class = self.condition.draw(n, generator)  # of no class in particular: codes of any
            y = any_class if y is None else torch.where(y.cpu() < 0, any_class, y.cpu())
            return self.sampler.draw(n, generator, y)
        if not self.has_decoder:
            raise InputError(f"{self.name} makes no images from codes; train a model that samples, such as vae-gan.")
        if not self.has_prior:
            raise InputError(f"{self.name} has no prior to draw codes from; train with --sampler gmm, flow or auto.")
        with evaluating(self):
            return self.draw_prior(n, generator)

    def sample(self, n: int, *, label: Any = None, seed: int | None = None) -> Tensor:
        """n new images (n, C, H, W) in [0, 1]: no gradients, eval mode, the fitted sampler or the prior. `label`: see
        `draw_labels`. Without a seed the numbers come from the system, whatever torch.manual_seed was told."""
        y = self.draw_labels(n, label, seed)
        codes = self.draw_codes(n, seed, y)
        with seeded(generator_of(seed, 0xD0).initial_seed(), self.device):  # dropout that stays on
            return self.decode(codes, y)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's. InputError for a state that holds a fitted sampler, which this model has not."""
        if self.sampler is None and any(k.startswith("sampler.") for k in state_dict):
            raise InputError(
                "this state holds a fitted sampler; keep models with save_pretrained and lf.load, or set model.sampler "
                "to None before its state_dict()."
            )
        return super().load_state_dict(state_dict, strict, assign)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `model.safetensors`, `config.json` and a model card."""
        from latentforge.saving import need_alike, save_model

        need_alike(self, "it could not be loaded again")
        save_model(self, directory)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Game:
        """Load a directory written by `save_pretrained`, or a repository of that shape on the Hugging Face hub."""
        from latentforge.saving import load_pretrained

        return load_pretrained(name, cls)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face hub; returns the address."""
        from latentforge.saving import push_to_hub

        return push_to_hub(self, repo_id, **options)
