"""Gradient penalties on critics whose gradients are known: norms over all axes and inputs, second-order gradients into
the critic's weights, and how a duel weighs them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latentforge.parts.penalties import squared_gradient, unit_gradient
from playing import assert_same, build, clock, gradients, images, slope_norms

SHAPES = [(3, 1, 1, 1), (4, 3, 5, 7), (2, 2, 8, 3)]
G = torch.Generator().manual_seed(5)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=G, dtype=torch.float64)


def linear(w: Tensor):
    return lambda x: (x * w).sum((1, 2, 3)) + 0.7


@pytest.fixture(autouse=True)
def start() -> None:
    G.manual_seed(5)


# -- known gradients -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear_critic(shape):
    """D(x) = <w, x>: the gradient is w everywhere, and its norm runs over channels, rows and columns."""
    w, x, y = randn(*shape[1:]), randn(*shape), randn(*shape)
    expected = torch.full((shape[0],), float((w**2).sum()))
    torch.testing.assert_close(squared_gradient(linear(w), x), expected, rtol=1e-6, atol=0)
    share = torch.rand(shape[0], 1, generator=G)
    found = unit_gradient(linear(w), (x,), (y,), share)
    torch.testing.assert_close(found, (expected.sqrt() - 1) ** 2, rtol=1e-5, atol=1e-9)
    unit = w / (w**2).sum().sqrt()
    assert unit_gradient(linear(unit), (x,), (y,), share).max() < 1e-12


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quadratic_critic(shape):
    """D(x) = 1/2 x'Ax + b'x: the gradient is Ax + b, at each example its own."""
    n = x_size = shape[1] * shape[2] * shape[3]
    a, b = randn(n, n), randn(n)
    a = a + a.T
    x, y = randn(*shape), randn(*shape)

    def critic(v: Tensor) -> Tensor:
        v = v.flatten(1).to(a)
        return 0.5 * ((v @ a) * v).sum(1) + v @ b

    def slope(v: Tensor) -> Tensor:
        return torch.stack([a @ row + b for row in v.reshape(-1, x_size)])

    torch.testing.assert_close(squared_gradient(critic, x).double(), (slope(x) ** 2).sum(1), rtol=1e-5, atol=1e-9)
    share = torch.rand(shape[0], 1, generator=G)
    middle = torch.stack([s * p + (1 - s) * q for s, p, q in zip(share, x, y, strict=True)])
    expected = ((slope(middle) ** 2).sum(1).sqrt() - 1) ** 2
    torch.testing.assert_close(unit_gradient(critic, (x,), (y,), share).double(), expected, rtol=1e-5, atol=1e-9)


def test_pairs_have_one_norm():
    """D(x, z) = <w, x> + 1/2 c ||z||^2: the squares of both gradients add up before any root."""
    w, x, z = randn(2, 3, 4), randn(5, 2, 3, 4), randn(5, 6)
    other, code = randn(5, 2, 3, 4), randn(5, 6)
    c = 0.8

    def critic(image: Tensor, z: Tensor) -> Tensor:
        return linear(w)(image) + 0.5 * c * (z**2).sum(1)

    both = (w**2).sum() + c**2 * (z**2).sum(1)
    torch.testing.assert_close(squared_gradient(critic, x, z).double(), both, rtol=1e-6, atol=0)
    share = torch.rand(5, 1, generator=G)
    between = share * z + (1 - share) * code
    expected = (((w**2).sum() + c**2 * (between**2).sum(1)).sqrt() - 1) ** 2
    found = unit_gradient(critic, (x, z), (other, code), share)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-9)


# -- second order ----------------------------------------------------------------------------------------------------
def two_layers() -> tuple[Tensor, Tensor]:
    return randn(6, 24).mul(0.4).requires_grad_(), randn(6).requires_grad_()


def curved(first: Tensor, second: Tensor):
    """D(x) = v' tanh(W x), whose gradient is W'(v (1 - tanh^2))."""
    return lambda x: torch.tanh(x.flatten(1).to(first) @ first.T) @ second


@pytest.mark.parametrize("which", ["squared", "unit"])
def test_gradients_reach_the_weights(which):
    """Against the formula of the gradient written out, and against finite differences."""
    weights = two_layers()
    x, y, share = randn(5, 2, 3, 4), randn(5, 2, 3, 4), torch.rand(5, 1, generator=G)
    points = share[:, :, None, None] * x + (1 - share[:, :, None, None]) * y

    def penalty(first: Tensor, second: Tensor) -> Tensor:
        critic = curved(first, second)
        found = squared_gradient(critic, x) if which == "squared" else unit_gradient(critic, (x,), (y,), share)
        return found.mean()

    def by_hand(first: Tensor, second: Tensor) -> Tensor:
        at = (x if which == "squared" else points).flatten(1)
        slope = (second * (1 - torch.tanh(at @ first.T) ** 2)) @ first
        squares = (slope**2).sum(1)
        return (squares if which == "squared" else (squares.sqrt() - 1) ** 2).mean()

    found = torch.autograd.grad(penalty(*weights), weights)
    assert_same({"critic": list(found)}, {"critic": list(torch.autograd.grad(by_hand(*weights), weights))})
    for _ in range(3):
        along = [randn(*w.shape) for w in weights]
        ahead, behind = (by_hand(*[w + e * a for w, a in zip(weights, along, strict=True)]) for e in (1e-5, -1e-5))
        slope = sum(float((g * a).sum()) for g, a in zip(found, along, strict=True))
        assert slope == pytest.approx(float((ahead - behind).detach()) / 2e-5, rel=1e-4)


def test_the_images_get_no_gradient():
    """The penalty moves the critic alone, not who made the images."""
    weights = two_layers()
    x, y = randn(4, 2, 3, 4).requires_grad_(), randn(4, 2, 3, 4).requires_grad_()
    share = torch.rand(4, 1, generator=G)
    total = squared_gradient(curved(*weights), x).sum() + unit_gradient(curved(*weights), (x,), (y,), share).sum()
    assert torch.autograd.grad(total, (x, y), retain_graph=True, allow_unused=True) == (None, None)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(total, weights))


def test_a_flat_critic_has_a_finite_gradient():
    """The root of 0 has no slope; a critic that has just been clamped must not become NaN."""
    w = torch.zeros(1, 4, 4, requires_grad=True)
    penalty = unit_gradient(linear(w), (images(3, (1, 4, 4)),), (images(3, (1, 4, 4), 2),), torch.rand(3, 1)).mean()
    assert penalty.item() == pytest.approx(1.0, abs=1e-5)
    assert torch.autograd.grad(penalty, w)[0].isfinite().all()


def test_half_precision_does_not_reach_the_penalty():
    """Under autocast the gradient is that of float32."""
    torch.manual_seed(0)
    critic, x = nn.Sequential(nn.Flatten(), nn.Linear(24, 9), nn.Tanh(), nn.Linear(9, 1)), images(5, (2, 3, 4))
    outside = squared_gradient(lambda v: critic(v)[:, 0], x)
    with torch.autocast("cpu", torch.bfloat16):
        assert critic(x).dtype == torch.bfloat16
        inside = squared_gradient(lambda v: critic(v)[:, 0], x)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=1e-6, atol=0)


def test_points_lie_between():
    """Each example at its own share of the way, the same for all its pixels and for the code beside it."""
    seen: list[tuple[Tensor, Tensor]] = []

    def critic(x: Tensor, z: Tensor) -> Tensor:
        seen.append((x.detach(), z.detach()))
        return x.sum((1, 2, 3)) + z.sum(1)

    real, fake = (randn(6, 3, 4, 5), randn(6, 2)), (randn(6, 3, 4, 5), randn(6, 2))
    share = torch.rand(6, 1, generator=G)
    share[0], share[1] = 0.0, 1.0
    unit_gradient(critic, real, fake, share)
    ((x, z),) = seen
    for i in range(6):
        for found, a, b in ((x, real[0], fake[0]), (z, real[1], fake[1])):
            expected = float(share[i]) * a[i] + (1 - float(share[i])) * b[i]
            torch.testing.assert_close(found[i].double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x[0].double(), fake[0][0], rtol=1e-6, atol=0)
    torch.testing.assert_close(x[1].double(), real[0][1], rtol=1e-6, atol=0)


# -- in a duel -------------------------------------------------------------------------------------------------------
class Bowl(nn.Module):
    """D(x) = a/2 ||x||^2, whose squared gradient is a^2 ||x||^2."""

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.a * x.square().sum((1, 2, 3))


def duel(**rules):
    model = build("gan", hidden=(8,), critic_hidden=(8,), latent_dim=3, **rules)
    model.critic = Bowl(0.3)
    return model


X, Y = images(6, (1, 6, 6), 1), images(6, (1, 6, 6), 2) * 3 - 1


def r(x: Tensor) -> float:
    """Half of R1 or R2 by hand."""
    return float(0.5 * (0.3**2 * (x.double() ** 2).sum((1, 2, 3))).mean())


def test_weights_of_r1_and_r2():
    assert r(X) != pytest.approx(r(Y), rel=0.1)
    for rules, expected in (
        ({"r1": 0.4}, 0.4 * r(X)), ({"r2": 0.7}, 0.7 * r(Y)), ({"r1": 0.4, "r2": 0.7}, 0.4 * r(X) + 0.7 * r(Y)), ({}, 0.0)
    ):  # fmt: skip
        t = clock()
        assert duel(**rules).penalty((X,), (Y,), t).item() == pytest.approx(expected, rel=1e-5)
        if rules:
            assert float(t.logged["penalty"]) == pytest.approx(expected, rel=1e-5)


def test_weight_of_the_gradient_penalty_and_its_own_draw_for_each_example():
    share = clock().rand(6, 1).double()
    assert share.std() > 0.1
    points = torch.stack([s * a + (1 - s) * b for s, a, b in zip(share, X.double(), Y.double(), strict=True)])
    expected = 10 * ((0.3 * (points**2).sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
    assert duel(gradient_penalty=10.0).penalty((X,), (Y,), clock()).item() == pytest.approx(float(expected), rel=1e-5)
    together = duel(gradient_penalty=10.0, r1=0.4, r2=0.7).penalty((X,), (Y,), clock())
    assert together.item() == pytest.approx(float(expected) + 0.4 * r(X) + 0.7 * r(Y), rel=1e-5)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_lazy_penalties_keep_their_average_strength(every):
    model = duel(r1=0.4, penalty_every=every)
    by_round = [model.penalty((X,), (Y,), clock(i)).item() for i in range(8)]
    assert [v > 0 for v in by_round] == [i % every == 0 for i in range(8)]
    assert sum(by_round) == pytest.approx(8 * 0.4 * r(X), rel=1e-5)


def test_the_critics_cost_holds_the_penalty_and_the_generators_does_not():
    plain, rules = duel(), {"r1": 0.4, "r2": 0.7, "gradient_penalty": 2.0}
    with_it, t = duel(**rules), clock()
    difference = (with_it.critic_cost((X,), (Y,), t) - plain.critic_cost((X,), (Y,), clock())).item()
    assert difference == pytest.approx(with_it.penalty((X,), (Y,), clock()).item(), rel=1e-4)
    assert difference > 0.1
    assert torch.equal(with_it.generator_cost((X,), (Y,), clock()), plain.generator_cost((X,), (Y,), clock()))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gan", {}),
        ("cgan", {"net": "mlp", "num_classes": 3, "how": "projection"}),
        ("cgan", {"net": "mlp", "num_classes": 3, "how": "concat"}),
        ("bigan", {"net": "mlp"}),
        ("joint-vae-gan", {"net": "mlp"}),
    ],
    ids=str,
)
def test_penalties_of_every_kind_of_critic(name, options):
    """Gradients over the critic's weights of R1 + R2 + WGAN-GP, example by example in float64; a conditional critic is
    told the label, which is no input to differentiate, a critic of pairs is differentiated in both."""
    weights = {"r1": 0.5, "r2": 0.25, "gradient_penalty": 3.0, "penalty_every": 1}
    model = build(name, hidden=(8,), critic_hidden=(10, 7), latent_dim=3, **options, **weights)
    pairs = name in ("bigan", "joint-vae-gan")
    real = (X, randn(6, 3).float()) if pairs else (X,)
    fake = (Y, randn(6, 3).float()) if pairs else (Y,)
    y = torch.tensor([0, 2, 1, -1, 2, 0]) if name == "cgan" else None
    parts = {"critic": list(model.critic.parameters())}
    found = gradients({"critic": model.penalty(real, fake, clock(), y)}, parts)

    def norms(what: tuple[Tensor, ...]) -> Tensor:
        if y is None:
            return slope_norms(model.critic, *what)
        told = (torch.eye(3)[y] * (y >= 0)[:, None]).to(what[0]).split(1)
        ones = zip(what[0].split(1), told, strict=True)
        return torch.cat([slope_norms(lambda v, c=c: model.critic(v, c), x) for x, c in ones])

    model.double()
    share = clock().rand(6, 1)
    middle = tuple(share.view(-1, *[1] * (a.dim() - 1)) * a + (1 - share.view(-1, *[1] * (a.dim() - 1))) * b
                   for a, b in zip(real, fake, strict=True))  # fmt: skip
    at = [norms(tuple(v.double() for v in what)) for what in (real, fake, middle)]
    expected = (0.25 * at[0] ** 2 + 0.125 * at[1] ** 2 + 3.0 * (at[2] - 1) ** 2).mean()
    assert_same(found, gradients({"critic": expected}, {"critic": list(model.critic.parameters())}))
