"""Gaussians over codes against torch.distributions in float64 and against Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from latentforge.parts.gaussian import Diagonal, Full, Point, Squashed, kl_between

B, Z = 5, 4
MANY = 200_000


@pytest.fixture
def g() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def entries_of(scale: torch.Tensor) -> torch.Tensor:
    """What `Full` is given for a Cholesky factor (B, Z, Z), written out in loops: log diagonal, then rows below it."""
    z = scale.shape[1]
    out = [[math.log(s[i, i]) for i in range(z)] + [float(s[i, j]) for i in range(z) for j in range(i)] for s in scale]
    return torch.tensor(out)


def factors(g: torch.Generator, b: int = B, z: int = Z) -> torch.Tensor:
    """(b, z, z) lower triangular with positive diagonal."""
    return torch.randn(b, z, z, generator=g).tril(-1) + torch.diag_embed(torch.rand(b, z, generator=g) + 0.3)


def diagonal(g: torch.Generator) -> Diagonal:
    return Diagonal(torch.randn(B, Z, generator=g), torch.randn(B, Z, generator=g))


def full(g: torch.Generator) -> Full:
    return Full(torch.randn(B, Z, generator=g), entries_of(factors(g)))


def reference(q: Diagonal | Full) -> MultivariateNormal:
    """The same distribution in float64, from parameters that the class did not compute."""
    return MultivariateNormal(q.mean.double(), scale_tril=q.tril().double())


def check_mean(values: torch.Tensor, expected: torch.Tensor, sigmas: float = 5.0) -> None:
    """The mean of `values` (N, ...) is `expected` within Monte Carlo error."""
    error = values.double().std(0) / math.sqrt(len(values))
    assert ((values.double().mean(0) - expected).abs() < sigmas * error + 1e-6).all()
    assert (error < 0.05).all(), "too few samples to tell"


# -- diagonal --------------------------------------------------------------------------------------------------------
def test_diagonal_kl_per_dimension(g):
    q = diagonal(g)
    expected = kl_divergence(Normal(q.mean.double(), (q.log_variance.double() / 2).exp()), Normal(0.0, 1.0))
    assert q.kl_per_dimension().shape == (B, Z)
    torch.testing.assert_close(q.kl_per_dimension().double(), expected, rtol=1e-5, atol=1e-6)


def test_diagonal_kl_by_monte_carlo(g):
    q = diagonal(g)
    noise = torch.randn(MANY, B, Z, generator=g)
    z = q.mean + q.stddev * noise
    check_mean(Normal(q.mean, q.stddev).log_prob(z) - Normal(0.0, 1.0).log_prob(z), q.kl_per_dimension().double())


def test_diagonal_of_the_prior_costs_nothing():
    assert Diagonal(torch.zeros(2, 3), torch.zeros(2, 3)).kl_per_dimension().eq(0).all()


def test_diagonal_log_prob_and_stddev(g):
    q = diagonal(g)
    z = torch.randn(B, Z, generator=g)
    ref = Normal(q.mean.double(), (q.log_variance.double() / 2).exp())
    torch.testing.assert_close(q.log_prob(z).double(), ref.log_prob(z.double()).sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.stddev.double(), ref.stddev, rtol=1e-6, atol=0)
    torch.testing.assert_close(q.tril() @ q.tril().mT, torch.diag_embed(q.log_variance.exp()))


def test_diagonal_sample(g):
    q = diagonal(g)
    noise = torch.randn(B, Z, generator=g)
    assert torch.equal(q.sample(noise), q.mean + q.stddev * noise)
    torch.manual_seed(0)
    assert not torch.equal(q.sample(), q.sample())


def test_diagonal_survives_extreme_and_half_precision_networks():
    wild = Diagonal(torch.zeros(1, 2), torch.tensor([[1e4, -1e4]]))
    assert wild.stddev.isfinite().all()
    assert wild.kl_per_dimension().isfinite().all()
    half = Diagonal(torch.ones(1, 2, dtype=torch.bfloat16), torch.ones(1, 2, dtype=torch.bfloat16))
    assert half.kl_per_dimension().dtype == half.sample().dtype == torch.float32


# -- full ------------------------------------------------------------------------------------------------------------
def test_full_reads_its_entries_row_by_row():
    q = Full(torch.zeros(1, 3), torch.tensor([[0.0, math.log(2), math.log(3), 10.0, 20.0, 21.0]]))
    expected = torch.tensor([[[1.0, 0.0, 0.0], [10.0, 2.0, 0.0], [20.0, 21.0, 3.0]]])
    torch.testing.assert_close(q.tril(), expected)


@pytest.mark.parametrize("z", [1, 2, 5])
def test_every_entry_of_full_has_its_own_place(z):
    """Z (Z + 1) / 2 numbers reach Z (Z + 1) / 2 different places, all in the lower triangle."""
    n = z * (z + 1) // 2
    entries = torch.linspace(0.1, 1.0, n)
    scale = Full(torch.zeros(1, z), entries[None]).tril()[0]
    moved = torch.autograd.functional.jacobian(lambda e: Full(torch.zeros(1, z), e[None]).tril()[0], entries) != 0
    assert torch.equal(moved.any(2), torch.ones(z, z).tril().bool()), "exactly the lower triangle is reached"
    assert (moved.sum((0, 1)) == 1).all(), "each number reaches one place"
    assert (moved.sum(2) <= 1).all(), "no place is reached by two numbers"
    assert (scale.diagonal() > 0).all()


def test_full_round_trip(g):
    scale = factors(g)
    torch.testing.assert_close(Full(torch.zeros(B, Z), entries_of(scale)).tril(), scale)


def test_full_log_prob_and_stddev(g):
    q = full(g)
    z = torch.randn(B, Z, generator=g)
    torch.testing.assert_close(q.log_prob(z).double(), reference(q).log_prob(z.double()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(q.stddev.double(), reference(q).stddev, rtol=1e-5, atol=0)


def test_full_sample_moments(g):
    q = Full(torch.randn(1, Z, generator=g).expand(MANY, Z), entries_of(factors(g, 1)).expand(MANY, -1))
    z = q.sample(torch.randn(MANY, Z, generator=g))
    covariance = (q.tril()[0] @ q.tril()[0].T).double()
    check_mean(z, q.mean[0].double())
    centred = (z - q.mean).double()
    check_mean(centred[:, :, None] * centred[:, None, :], covariance)
    torch.manual_seed(0)
    assert not torch.equal(q.sample(), q.sample())


def test_diagonal_and_full_agree_where_both_apply(g):
    q = diagonal(g)
    same = Full(q.mean, torch.cat([q.log_variance / 2, torch.zeros(B, Z * (Z - 1) // 2)], 1))
    z = torch.randn(B, Z, generator=g)
    for a, b in ((q.stddev, same.stddev), (q.log_prob(z), same.log_prob(z)), (q.tril(), same.tril())):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.sample(z), same.sample(z))


# -- KL between any two ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("q_kind", [diagonal, full])
@pytest.mark.parametrize("p_kind", [diagonal, full])
def test_kl_between(g, q_kind, p_kind):
    q, p = q_kind(g), p_kind(g)
    found = kl_between(q.mean, q.tril(), p.mean, p.tril())
    torch.testing.assert_close(found.double(), kl_divergence(reference(q), reference(p)), rtol=1e-4, atol=1e-4)
    assert (found > 0).all()


@pytest.mark.parametrize("q_kind", [diagonal, full])
def test_kl_between_with_one_prior_for_all(g, q_kind):
    q = q_kind(g)
    mean, scale = torch.randn(1, Z, generator=g), factors(g, 1)
    prior = MultivariateNormal(mean.double(), scale_tril=scale.double())
    found = kl_between(q.mean, q.tril(), mean, scale)
    assert found.shape == (B,)
    torch.testing.assert_close(found.double(), kl_divergence(reference(q), prior), rtol=1e-4, atol=1e-4)


def test_kl_between_by_monte_carlo(g):
    q, p = full(g), full(g)
    z = q.mean + (q.tril() @ torch.randn(MANY, B, Z, 1, generator=g))[..., 0]
    gap = torch.stack([Full.log_prob(q, c) - Full.log_prob(p, c) for c in z[:1]])  # shapes as the class has them
    assert gap.shape == (1, B)
    log_ratio = reference(q).log_prob(z.double()) - reference(p).log_prob(z.double())
    torch.testing.assert_close(gap[0].double(), log_ratio[0], rtol=1e-3, atol=1e-3)
    error = log_ratio.std(0) / math.sqrt(MANY)
    found = kl_between(q.mean, q.tril(), p.mean, p.tril()).double()
    assert ((log_ratio.mean(0) - found).abs() < 5 * error).all()
    assert (error < 0.03 * found).all(), "too few samples to tell"


def test_kl_between_equals_the_diagonal_formula(g):
    q = diagonal(g)
    found = kl_between(q.mean, q.tril(), torch.zeros(1, Z), torch.eye(Z)[None])
    torch.testing.assert_close(found, q.kl_per_dimension().sum(1), rtol=1e-5, atol=1e-5)


def test_kl_between_is_zero_only_for_the_same(g):
    q = full(g)
    same = kl_between(q.mean, q.tril(), q.mean, q.tril())
    torch.testing.assert_close(same, torch.zeros(B), atol=1e-5, rtol=0)
    moved = kl_between(q.mean, q.tril(), q.mean + 0.1, q.tril())
    assert (moved > 1e-3).all()


# -- squashed --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [diagonal, full])
def test_squashed_mean_and_stddev(g, kind):
    base = kind(g)
    q = Squashed(base)
    z = 2 * Normal(0.0, 1.0).cdf(base.mean + (base.tril() @ torch.randn(MANY, B, Z, 1, generator=g))[..., 0]) - 1
    check_mean(z, q.mean.double())
    check_mean((z - z.mean(0)).square(), q.stddev.square().double())


@pytest.mark.parametrize(
    ("stddev", "rtol"), [(0.01, 1e-3), (0.1, 1e-3), (1.0, 1e-3), (2.0, 1e-3), (5.0, 0.01), (50.0, 0.02)]
)
def test_squashed_moments_by_fine_integration(stddev, rtol):
    """Narrow and wide posteriors, far from and near to the ends of [-1, 1], against a sum over a fine grid. The 64
    nodes are too few for posteriors much wider than the prior, which do not occur."""
    means = torch.tensor([[-4.0], [-1.5], [0.0], [0.7], [4.0]])
    q = Squashed(Diagonal(means, torch.full((5, 1), 2 * math.log(stddev))))
    nodes = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    weight = (-nodes.square() / 2).exp()
    weight /= weight.sum()
    value = 2 * torch.special.ndtr(means.double() + stddev * nodes) - 1
    mean = (value * weight).sum(1, keepdim=True)
    spread = ((value - mean).square() * weight).sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(q.mean.double(), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(q.stddev.double(), spread, atol=1e-6, rtol=rtol)


def test_squashed_prior_is_uniform(g):
    z = Squashed.squash(torch.randn(MANY, generator=g)).double()
    check_mean(torch.stack([z, z**2, z**4], 1), torch.tensor([0.0, 1 / 3, 1 / 5]).double())
    gap = (z.sort().values - torch.linspace(-1, 1, MANY).double()).abs().max()
    assert gap < 2 * 1.95 / math.sqrt(MANY)  # Kolmogorov-Smirnov, 0.1 %


def test_squashed_kl_against_the_uniform_prior(g):
    """KL of z = 2 Phi(u) - 1 from the uniform density 1/2, with z's density by the change of variables."""
    base = Diagonal(torch.randn(B, 1, generator=g), torch.randn(B, 1, generator=g))
    u = (base.mean + base.stddev * torch.randn(MANY, B, 1, generator=g)).double()
    slope = 2 * Normal(0.0, 1.0).log_prob(u).exp()  # dz / du
    log_q = Normal(base.mean.double(), base.stddev.double()).log_prob(u) - slope.log()
    check_mean(log_q - math.log(0.5), base.kl_per_dimension().double())


def test_squashed_sample_stays_inside(g):
    base = diagonal(g)
    noise = torch.randn(B, Z, generator=g)
    z = Squashed(base).sample(noise)
    assert (z.abs() < 1).all()
    back = torch.special.ndtri((z.double() + 1) / 2)
    torch.testing.assert_close(back, base.sample(noise).double(), rtol=1e-3, atol=1e-3)


# -- point -----------------------------------------------------------------------------------------------------------
def test_point_has_no_spread():
    q = Point(torch.ones(2, 3, dtype=torch.bfloat16))
    assert q.stddev.eq(0).all()
    assert torch.equal(q.sample(torch.randn(2, 3)), q.mean)
    assert q.mean.dtype == torch.float32
