"""The game among players: what a model is.

A model names its players (encoder, decoder, critic ...), each owning modules, and writes one round of training as a
generator, `play(data, t)`, that yields moves: dicts from player to scalar loss. Names in one yield step together,
separate yields step in turn, and code after a yield sees the stepped weights. Order, frequency, warm-up, clamping and
sitting out are ordinary Python in the model. The trainer (`train.py`) does the rest and knows no model by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from latentforge.clock import Clock, mix
from latentforge.data.batch import Batch, Images
from latentforge.errors import RunError

Move = dict[str, Tensor]


@dataclass(frozen=True)
class Seat:
    """How one player steps. The trainer's options replace single fields of it."""

    lr: float = 1e-3
    optimizer: str = "adam"  # sgd, momentum, adagrad, rmsprop, adam or adamw
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's; the first is also the momentum of `momentum`
    weight_decay: float = 0.0
    clip: float | None = None  # largest gradient norm of the player, None for no clipping
    ema: float | None = 10_000  # half-life of the weights' moving average in examples, None for no average


def frozen(module: nn.Module):
    """`module` as a function that another player may call: gradients pass through to the input, its weights are
    constants, and its buffers (BatchNorm statistics, spectral norm vectors, codebooks) are copies that may change
    without a trace."""
    state = {name: p.detach() for name, p in module.named_parameters()}
    state |= {name: b.clone() for name, b in module.named_buffers()}
    return lambda *args, **kwargs: functional_call(module, state, args, kwargs)


def leave_out(move: Move, *names: str) -> Move:
    """The move without the players in `names`, who sit this one out."""
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
        out[player] = list(own.values())
    lost = [k for key, k in names.items() if key not in owner]
    if lost:
        raise RunError(f"no player owns {', '.join(lost[:3])}")
    return out


class Game(nn.Module):
    """Base of every model. Images cross its public methods as float (B, C, H, W) in [0, 1]; inside, networks use
    `pixel_range`. B batch, C channels, H height, W width, Z latent size."""

    shared: ClassVar[set[str]] = set()  # parameter-name prefixes that two players may both move
    batch_coupled: bool = False  # True where the loss mixes examples (BatchNorm, minibatch statistics, dropout)
    pixel_range: tuple[float, float] = (0.0, 1.0)  # of `generate` and of what the networks are fed
    args: dict[str, Any]  # resolved constructor arguments, set by the registry: they are the config

    image_shape: tuple[int, int, int]
    latent_dim: int
    num_classes: int = 0
    name: ClassVar[str]  # under which the model is registered
    trained_on: str | None = None
    sampler_kind: str = "prior"

    sampler: Any

    def __init__(self) -> None:
        super().__init__()
        self.register_module("sampler", None)  # a density over codes fitted in `finish`; None means the prior

    # -- what a family writes ------------------------------------------------------------------------------------
    def players(self) -> dict[str, list[nn.Module]]:
        """The modules each player owns. Every trainable parameter belongs to exactly one player, `shared` aside."""
        raise TypeError(f"{type(self).__name__} must define players()")

    def seats(self) -> dict[str, Seat]:
        """How each player steps; the defaults of the model's paper."""
        return {name: Seat() for name in self.players()}

    def play(self, data: Iterator[Batch], t: Clock) -> Iterator[Move]:
        """One round of training."""
        raise TypeError(f"{type(self).__name__} must define play()")

    def settle(self, t: Clock) -> None:
        """Once per round, after its last move: the only place that writes persistent state (gates, schedules)."""

    def finish(self, data: Images) -> None:
        """Once, after the last round, on the averaged weights: fit what sampling needs on the training images."""
        if self.sampler_kind != "prior":
            from latentforge import samplers

            codes = torch.cat([self.encode(b.image.to(self.device)).sample().cpu() for b in data.batches()])
            self.sampler = samplers.fit(self.sampler_kind, codes).to(self.device)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Per-example measures (B,), named with their unit. Called without gradients, in eval mode, seeded."""
        raise TypeError(f"{type(self).__name__} must define evaluate()")

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in `pixel_range` from codes (B, Z); differentiable, for use inside `play`."""
        raise TypeError(f"{type(self).__name__} must define generate()")

    def draw_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, Z) codes from the prior; N(0, I) unless the family says otherwise."""
        return torch.randn(n, self.latent_dim, generator=generator)

    def encode(self, image: Tensor) -> Any:
        """The posterior over codes of images in [0, 1]: `.mean`, `.stddev` (B, Z) and `.sample()`."""
        raise TypeError(f"{type(self).__name__} has no encoder")

    # -- what every model can do -----------------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

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
    def decode(self, z: Tensor, y: Tensor | None = None, batch: int = 256) -> Tensor:
        """Images (B, C, H, W) in [0, 1] from codes (B, Z), in eval mode and bounded memory."""
        training = self.training
        self.eval()
        try:
            ys = [None] * math.ceil(len(z) / batch) if y is None else y.split(batch)
            parts = [self.to_unit(self.generate(c.to(self.device), k)) for c, k in zip(z.split(batch), ys, strict=True)]
            return torch.cat(parts).clamp_(0, 1)
        finally:
            self.train(training)

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> Tensor:
        """Decode the posterior mean: images (B, C, H, W) in [0, 1] to the same."""
        training = self.training
        self.eval()
        try:
            codes = torch.cat([self.encode(x.to(self.device)).mean for x in image.split(256)])
            return self.decode(codes)
        finally:
            self.train(training)

    def draw_codes(self, n: int, seed: int | None = None) -> Tensor:
        """(n, Z) codes from the fitted sampler, or from the prior where none is fitted."""
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(mix(seed, 0x5A4D))
        if self.sampler is not None:
            return self.sampler.draw(n, generator)
        return self.draw_prior(n, generator)

    def sample(self, n: int, *, seed: int | None = None) -> Tensor:
        """n new images (n, C, H, W) in [0, 1]: no gradients, eval mode, the fitted sampler or the prior."""
        return self.decode(self.draw_codes(n, seed))

    def save_pretrained(self, directory: str) -> None:
        """Write `model.safetensors`, `config.json` and a model card."""
        from latentforge.saving import save_model

        save_model(self, directory)

    @classmethod
    def from_pretrained(cls, name: str) -> Game:
        """Load a directory written by `save_pretrained`, or a repository of that shape on the Hugging Face hub."""
        from latentforge.saving import load_pretrained

        return load_pretrained(name, cls)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face hub; returns the address."""
        from latentforge.saving import push_to_hub

        return push_to_hub(self, repo_id, **options)
