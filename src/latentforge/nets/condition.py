"""What a conditional model is told of an image, as numbers its networks can take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from latentforge.clock import Clock
from latentforge.errors import InputError, shown

REMEMBERED = 1000  # training descriptors kept to draw from


class Told(nn.Module):
    """Base of `Condition`: `forward` gives (B, size) numbers, zeros where nothing is told."""

    size: int
    classes: bool = False  # True where it is one of K classes
    drop: float = 0.0  # share of training examples of which nothing is told

    def drop_some(self, y: Tensor, t: Clock) -> Tensor:
        """y with a share of its rows replaced by what stands for nothing told."""
        if not self.drop:
            return y
        gone = t.rand(len(y)) < self.drop
        return torch.where(gone, -1, y) if self.classes else torch.where(gone[:, None], torch.nan, y)

    def check_drop(self, dropped: bool) -> None:
        """InputError where nothing is to be told to a model that always was told something."""
        if dropped and not self.drop:
            raise InputError(
                "this model was trained with a label for every image and needs one; give labels, or train with --drop .1."
            )


class Label(Told):
    """One of K classes, one-hot; -1 is nothing told. y: (B,) int64."""

    classes = True
    share: Tensor

    def __init__(self, num_classes: int):
        super().__init__()
        if num_classes < 1:
            raise ValueError("give num_classes, the number of classes of the data")
        self.size = num_classes
        self.register_buffer("share", torch.full((num_classes,), 1 / num_classes))

    def forward(self, y: Tensor | None, n: int) -> Tensor:
        if y is None:
            self.check_drop(True)
            return self.share.new_zeros(n, self.size)
        return (y[:, None] == torch.arange(self.size, device=y.device)).to(self.share)

    def check(self, y: Tensor) -> None:
        """InputError where labels of images are not what the model is told."""
        if y.is_floating_point() or y.dim() != 1:
            raise InputError(
                "this model is conditioned on classes, and these images have descriptors; give images with classes."
            )
        strange = y[(y < -1) | (y >= self.size)]
        if len(strange):
            raise InputError(f"there is no class {int(strange[0])}; the model knows 0 to {self.size - 1}.")
        self.check_drop(bool((y < 0).any()))

    def learn(self, labels: Tensor) -> None:
        """Remember how the training images' labels are distributed."""
        known = labels.cpu()[labels.cpu() >= 0]
        self.check_drop(len(known) < len(labels))
        count = torch.bincount(known, minlength=self.size).to(self.share)
        self.share.copy_(count / count.sum())

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n of them, distributed as in training, on the CPU."""
        return torch.multinomial(self.share.cpu(), n, replacement=True, generator=generator)

    def asked(self, label: Any, n: int) -> Tensor:
        """n of them from what a user asked for: one for all, or n."""
        y = as_numbers(-1 if isinstance(label, str) and label == "none" else label)
        if y is None or y.is_floating_point() or y.shape not in ((), (n,)):
            raise InputError(f"label: give one whole number, or {n} of them.")
        y = y.long().expand(n)
        wrong = y[(y < -1) | (y >= self.size)]
        if len(wrong):
            raise InputError(f"there is no label {int(wrong[0])}; the classes are 0 to {self.size - 1}, -1 for any.")
        self.check_drop(bool((y < 0).any()))
        return y.contiguous()


class Descriptor(Told):
    """D numbers (article 001, 3.1): standardised, a linear layer, then a trainable radial-basis-function layer,
    phi_j(h) = exp(-||h - c_j||^2 / (2 w_j^2)). y: (B, D) float32 in the data's units; a row of NaN is nothing told."""

    mean: Tensor
    stddev: Tensor
    known: Tensor

    def __init__(self, mean: tuple[float, ...], stddev: tuple[float, ...], features: int):
        super().__init__()
        d = len(mean)
        if d != len(stddev) or min(stddev) <= 0:
            raise ValueError(f"descriptor_stddev needs {d} numbers above 0, as many as descriptor_mean")
        self.size = features
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("stddev", torch.tensor(stddev, dtype=torch.float32))
        self.register_buffer("known", self.mean.expand(REMEMBERED, d).clone())
        self.linear = nn.Linear(d, 2 * d)
        nn.init.orthogonal_(self.linear.weight)  # distances between descriptors begin as they are
        nn.init.zeros_(self.linear.bias)
        self.centres = nn.Parameter(torch.randn(features, 2 * d))
        with torch.no_grad():
            self.centres.copy_(self.linear(torch.randn(features, d)))
        self.log_width = nn.Parameter(torch.full((features,), math.log(math.sqrt(d))))

    def forward(self, y: Tensor | None, n: int) -> Tensor:
        if y is None:
            self.check_drop(True)
            return self.mean.new_zeros(n, self.size)
        y = y.to(self.mean)
        told = y.isfinite().all(1, keepdim=True)
        with torch.autocast(y.device.type, enabled=False):
            h = self.linear((y.nan_to_num() - self.mean) / self.stddev)
            distance = (h[:, None] - self.centres).square().sum(2)
            return (-0.5 * distance * (-2 * self.log_width).exp()).exp() * told

    def check(self, y: Tensor) -> None:
        d = len(self.mean)
        if not y.is_floating_point() or y.shape[1:] != (d,):
            raise InputError(f"this model is conditioned on descriptors of {d} numbers; give images with as many.")

    def learn(self, labels: Tensor) -> None:
        pick = torch.linspace(0, len(labels) - 1, REMEMBERED).long()
        self.known.copy_(labels.to(self.known)[pick])

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.known.cpu()[torch.randint(len(self.known), (n,), generator=generator)]

    def asked(self, label: Any, n: int) -> Tensor:
        d = len(self.mean)
        y = as_numbers(label)
        if (isinstance(label, str) and label == "none") or (d > 1 and isinstance(label, int) and label == -1):
            y = torch.full((d,), math.nan)
        elif d == 1 and y is not None and y.shape in ((), (n,)):
            y = y.reshape(-1, 1)
        if y is None or y.shape not in ((d,), (1, d), (n, d)):
            raise InputError(f"label: give {d} numbers, the descriptor of one image, or {n} rows of them.")
        y = y.float()
        nothing = y.isnan().all(-1)
        if not y[~nothing].isfinite().all():
            raise InputError("label: a descriptor needs finite numbers; a row of NaN tells the model nothing.")
        self.check_drop(bool(nothing.any()))
        return y.expand(n, d).contiguous()


Condition = Label | Descriptor


def as_numbers(label: Any) -> Tensor | None:
    """A tensor of what a user gave; None where it is nothing of numbers."""
    try:
        return torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError):
        return None


def number_of(name: str, names: list[str], kind: str) -> int:
    """Which of `names` a user means: the one of that name, or, where no name is a number itself, the one of that number, from
    0 on. InputError for none, and for a number that names of numbers do not have."""
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names) and not any(n.lstrip("-").isdecimal() for n in names):
        return int(name)
    more = f" and {len(names) - 12:,} more" if len(names) > 12 else ""
    raise InputError(f"there is no {kind} '{shown(name)}'; choose from {', '.join(names[:12])}{more}.")


class Plane(nn.Module):
    """(B, C, H, W) and (B, size) numbers -> (B, C + 1, H, W): the numbers as one more channel, through a linear layer."""

    def __init__(self, size: int, image_shape: tuple[int, int, int]):
        super().__init__()
        self.side = image_shape[1:]
        self.linear = nn.Linear(size, math.prod(self.side))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return torch.cat([x, self.linear(told).unflatten(1, (1, *self.side)).to(x.dtype)], 1)


def condition_for(
    num_classes: int,
    drop: float = 0.0,
    mean: tuple[float, ...] = (),
    stddev: tuple[float, ...] = (),
    features: int = 64,
) -> Condition:
    """The condition a family's arguments describe: descriptors where their mean is given, else classes."""
    out: Condition = Descriptor(mean, stddev, features) if mean else Label(num_classes)
    out.drop = drop
    return out


class ConditionalCritic(nn.Module):
    """A critic that judges (B, C, H, W) images by what they are said to be: `concat` shows it the condition as one more
    channel (Mirza & Osindero 2014, arXiv:1411.1784), `projection` adds <V told, h> to its logit, h the input of its last
    layer (Miyato & Koyama 2018, arXiv:1802.05637, equation 3)."""

    def __init__(self, critic: Any, size: int, image_shape: tuple[int, int, int], projection: bool):
        super().__init__()
        self.critic = critic
        self.plane = None if projection else Plane(size, image_shape)
        width = next(m for m in critic.head[-1].modules() if isinstance(m, nn.Linear)).in_features
        self.embed: Any = nn.Linear(size, width, bias=False) if projection else None

    def features(self, x: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (B,), features of the critic)."""
        if self.plane is not None:
            return self.critic.features(self.plane(x, told))
        f = self.critic.body(x)
        h = self.critic.head[:-1](f)
        return self.critic.head[-1](h)[:, 0] + (self.embed(told) * h).sum(1), f

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.features(x, told)[0]


def last_linear(module: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer of a network, with its name."""
    return [(k, m) for k, m in module.named_modules() if isinstance(m, nn.Linear)][-1]


def before_last(network: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What the last linear layer of a network is given while `run` runs it."""
    kept: list[Tensor] = []
    with last_linear(network)[1].register_forward_pre_hook(lambda _, given: kept.append(given[0])):
        run()
    return kept[-1]
