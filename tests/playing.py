"""Rounds played by hand: a clock, images, what the trainer would take of a move, and D = sigmoid written out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import latentforge as lf
from latentforge.clock import Clock
from latentforge.data.batch import Batch
from latentforge.game import own_parameters

Gradients = dict[str, list[Tensor]]


def clock(round_: int = 3, progress: float = 0.0, seed: int = 11) -> Clock:
    """The clock of a round that begins. Equal arguments draw equal numbers."""
    t = Clock(seed)
    t.round, t.progress = round_, progress
    t.start_round()
    return t


def images(n: int = 6, shape: tuple[int, int, int] = (1, 6, 6), seed: int = 1) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def feed(*batches: Tensor, y: Tensor | None = None) -> Iterator[Batch]:
    """Each of the batches of images once; one more is an error."""
    for x in batches:
        yield Batch(x, y, torch.arange(len(x)))
    raise AssertionError("the round drew more images than it should")


def build(name: str, shape: tuple[int, int, int] = (1, 6, 6), grown: float = 1.5, **options):
    """A model in train mode whose weights are large enough for every term to matter."""
    torch.manual_seed(0)
    model = lf.create(name, image_shape=shape, **options)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(grown)
    return model.train()


def taken(model, move: dict[str, Tensor]) -> Gradients:
    """What the trainer takes of a move: each loss's gradient over its own player's parameters."""
    return gradients(move, own_parameters(model))


def gradients(losses: dict[str, Tensor], parts: dict[str, list]) -> Gradients:
    return {
        k: list(torch.autograd.grad(loss, parts[k], retain_graph=True, materialize_grads=True))
        for k, loss in losses.items()
    }


def assert_same(found: Gradients, expected: Gradients, close: float = 1e-4) -> None:
    """Equal up to float32, relative to the largest gradient of the player, and not all zero."""
    assert found.keys() == expected.keys()
    for name in expected:
        a, b = (torch.cat([g.double().flatten() for g in gs[name]]) for gs in (found, expected))
        assert b.abs().max() > 1e-6, f"{name}: nothing to compare"
        assert (a - b).abs().max() < close * b.abs().max(), name


def step(model, twin, expected: Gradients, rate: float = 0.05) -> None:
    """One long step of both along the expected gradients, so that the next move sees other weights."""
    with torch.no_grad():
        for name, grads in expected.items():
            for mine, theirs, g in zip(own_parameters(model)[name], own_parameters(twin)[name], grads, strict=True):
                theirs.sub_(rate * g)
                mine.copy_(theirs)


def d(logit: Tensor) -> Tensor:
    """D, a probability."""
    return 1 / (1 + (-logit).exp())


# what the critic and its opponent descend, from logits in float64, mean over the batch
CRITIC = {
    "nonsaturating": lambda r, f: -d(r).log().mean() - (1 - d(f)).log().mean(),
    "minimax": lambda r, f: -d(r).log().mean() - (1 - d(f)).log().mean(),
    "least-squares": lambda r, f: ((r - 1) ** 2).mean() + (f**2).mean(),
    "hinge": lambda r, f: (1 - r)[r < 1].sum() / r.numel() + (1 + f)[f > -1].sum() / f.numel(),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic": lambda r, f: -d(r - f).log().mean(),
}
GENERATOR = {
    "nonsaturating": lambda r, f: -d(f).log().mean(),
    "minimax": lambda r, f: (1 - d(f)).log().mean(),
    "least-squares": lambda r, f: ((f - 1) ** 2).mean(),
    "hinge": lambda r, f: -f.mean(),
    "wasserstein": lambda r, f: -f.mean(),
    "relativistic": lambda r, f: -d(f - r).log().mean(),
}


def slope_norms(critic, *inputs: Tensor) -> Tensor:
    """||gradient|| (B,) of a critic at its inputs, one example after the other, over all inputs together; differentiable
    in the critic's weights. The critic may not mix examples."""
    out = []
    for i in range(len(inputs[0])):
        points = [x[i : i + 1].detach().requires_grad_() for x in inputs]
        slopes = torch.autograd.grad(critic(*points).sum(), points, create_graph=True)
        out.append(sum((s**2).sum() for s in slopes).sqrt())
    return torch.stack(out)
