"""Densities over codes: their likelihood against independent references, their draws, and what `auto` picks."""

from __future__ import annotations

import copy
import functools
import json
import math

import numpy as np
import pytest
import threadpoolctl
import torch
from safetensors.torch import load, save
from sklearn.mixture import GaussianMixture as EM
from torch.distributions import MultivariateNormal

import latentforge as lf
from conftest import tiny_data
from latentforge import samplers
from latentforge.errors import InputError, RunError
from latentforge.samplers.autoregressive import Layer
from latentforge.samplers.common import location_and_scale
from latentforge.samplers.flow import Flow
from latentforge.samplers.gmm import GaussianMixture
from latentforge.samplers.per_label import PerLabel


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def banana(n: int, seed: int) -> torch.Tensor:
    a = torch.randn(n, 2, generator=generator(seed))
    return torch.stack([a[:, 0], 0.3 * a[:, 1] + a[:, 0].square()], 1)


def banana_log_prob(z: torch.Tensor) -> torch.Tensor:
    """p(z1) p(z2 | z1) of `banana`."""
    d = (z[:, 1] - z[:, 0].square()) / 0.3
    return -0.5 * (z[:, 0].square() + d.square()) - math.log(2 * math.pi * 0.3)


def moons(n: int, seed: int) -> torch.Tensor:
    """Two half circles in a plane of eight dimensions, with noise around."""
    g = generator(seed)
    angle, up = math.pi * torch.rand(n, generator=g), torch.rand(n, generator=g) < 0.5
    plane = torch.stack(
        [torch.where(up, angle.cos(), 1 - angle.cos()), torch.where(up, angle.sin(), 0.5 - angle.sin())], 1
    )
    axes = torch.randn(2, 8, generator=generator(5))
    return (plane + 0.1 * torch.randn(n, 2, generator=g)) @ axes + 0.2 * torch.randn(n, 8, generator=g)


MEANS = torch.tensor([[6.0, 0.0, 1.0], [-6.0, 2.0, 0.0], [0.0, -6.0, -3.0]])


def islands(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three well separated correlated Gaussians in three dimensions, and which one each code is of."""
    g = generator(seed)
    y = torch.randint(3, (n,), generator=g)
    mix = torch.tensor([[0.5, 0.0, 0.0], [0.4, 0.3, 0.0], [0.0, 0.2, 0.4]])
    return MEANS[y] + torch.randn(n, 3, generator=g) @ mix.T, y


def energy(a: torch.Tensor, b: torch.Tensor) -> float:
    """The energy distance 2 E|A - B| - E|A - A'| - E|B - B'| (Szekely & Rizzo 2013), without bias."""
    n, m = len(a), len(b)
    within = torch.cdist(a, a).sum() / (n * (n - 1)) + torch.cdist(b, b).sum() / (m * (m - 1))
    return float(2 * torch.cdist(a, b).mean() - within)


def check_same(draws: torch.Tensor, codes: torch.Tensor, permutations: int = 100) -> None:
    """A permutation test: the energy distance is not beyond three times its 99th percentile under equal laws, which
    leaves room for a fit that is good and not perfect."""
    g, pool = generator(9), torch.cat([draws, codes])
    shuffled = [pool[torch.randperm(len(pool), generator=g)].split(len(draws)) for _ in range(permutations)]
    assert energy(draws, codes) < 3 * float(np.quantile([energy(a, b) for a, b in shuffled], 0.99))


def one_gaussian(codes: torch.Tensor, held: torch.Tensor) -> float:
    """Mean log density of `held` under the Gaussian with the moments of `codes`."""
    return float(MultivariateNormal(codes.mean(0).double(), torch.cov(codes.T.double())).log_prob(held.double()).mean())


def mean_log_prob(sampler, held: torch.Tensor, labels=None) -> float:
    return float(sampler.log_prob(held, labels).double().mean())


def standard(z: torch.Tensor) -> torch.Tensor:
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)


@functools.cache
def fitted(kind, make, n: int):
    """A density of n codes of the first seed, for all tests that leave it as it is."""
    return kind.fit(make(n, 0))


@pytest.fixture(scope="module")
def bent() -> Flow:
    return fitted(Flow, banana, 6000)


@pytest.fixture(scope="module")
def labelled() -> Flow:
    return Flow.fit(*islands(3000, 0), classes=3)


# -- mixture ---------------------------------------------------------------------------------------------------------
def test_mixture_log_prob_against_scikit_learn():
    codes = moons(3000, 0)
    ours = GaussianMixture.fit(codes)
    k = len(ours.weights)
    assert k == 12
    theirs = EM(k)
    scales = ours.scales.double().numpy()
    theirs.weights_, theirs.means_ = ours.weights.double().numpy(), ours.means.double().numpy()
    theirs.covariances_ = scales @ scales.transpose(0, 2, 1)
    theirs.precisions_cholesky_ = np.stack([np.linalg.inv(s).T for s in scales])
    held = torch.cat([moons(500, 1), 5 * torch.randn(50, 8, generator=generator(2))])  # some where there are no codes
    np.testing.assert_allclose(ours.log_prob(held).numpy(), theirs.score_samples(held.double().numpy()), rtol=1e-4)


def test_mixture_fits_as_well_as_scikit_learn():
    codes, held = banana(6000, 0), banana(3000, 1)
    ours = mean_log_prob(GaussianMixture.fit(codes, components=10), held)
    assert ours == pytest.approx(EM(10, random_state=0).fit(codes.numpy()).score(held.numpy()), abs=0.03)
    assert one_gaussian(codes, held) + 1 < ours < float(banana_log_prob(held).mean()) + 0.02


def test_mixture_of_one_is_the_gaussian_of_the_codes():
    codes, held = moons(5000, 0), moons(1000, 1)
    assert mean_log_prob(GaussianMixture.fit(codes, 1), held) == pytest.approx(one_gaussian(codes, held), abs=0.01)


def test_mixture_follows_the_codes_in_scale_and_place():
    """The floor under the covariance is relative: tiny codes are fitted as well as large ones."""
    codes, held = islands(2000, 0)[0], islands(1000, 1)[0]
    moved = [mean_log_prob(GaussianMixture.fit(s * codes, 5), s * held) + 3 * math.log(s) for s in (1.0, 1e-4, 1e4)]
    assert moved == pytest.approx([moved[0]] * 3, abs=0.01)


def test_mixture_has_fewer_components_where_codes_are_few():
    """Ten components of ten codes each in 20 dimensions would be a density of the training codes alone."""
    codes, held = torch.randn(1000, 20, generator=generator(0)), torch.randn(1000, 20, generator=generator(1))
    few = GaussianMixture.fit(codes)
    assert len(few.weights) == 4
    assert len(GaussianMixture.fit(codes[:150]).weights) == 1
    assert mean_log_prob(GaussianMixture.fit(codes[:10]), held) > float(standard(held).mean()) - 6
    assert mean_log_prob(few, held) > mean_log_prob(GaussianMixture.fit(codes, 50), held) + 0.5


# -- flow ------------------------------------------------------------------------------------------------------------
def by_hand(flow: Flow, code: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise (Z,) that `flow` maps a code (Z,) to, and log p by the change of variables with autograd's Jacobian."""

    def to_noise(z: torch.Tensor) -> torch.Tensor:
        x = torch.linalg.inv(flow.scale) @ (z - flow.mean)
        x = x[None]
        for layer, order in zip(flow.layers, flow.order, strict=True):
            x = layer(x[:, order], y)[0]
        return x[0]

    noise = to_noise(code)
    jacobian = torch.autograd.functional.jacobian(to_noise, code)
    return noise, standard(noise[None])[0] + torch.linalg.slogdet(jacobian)[1]


def test_flow_log_prob_by_the_change_of_variables():
    flow = copy.deepcopy(fitted(Flow, moons, 2000)).double()
    assert max(float(layer.last.weight.abs().max()) for layer in flow.layers) > 0.01, "not trained"
    for code in moons(5, 1).double():
        expected = by_hand(flow, code, code.new_zeros(1, 0))[1]
        torch.testing.assert_close(flow.log_prob(code[None])[0], expected, rtol=1e-9, atol=1e-9)


def test_labelled_flow_log_prob_by_the_change_of_variables(labelled):
    codes, y = islands(6, 4)
    for code, k in zip(codes, y, strict=True):
        expected = by_hand(labelled, code, torch.eye(3)[k][None])[1]
        found = labelled.log_prob(code[None], k[None])[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_flow_layers_are_autoregressive():
    torch.manual_seed(0)
    layer = Layer(8, 0, 64)
    torch.nn.init.normal_(layer.last.weight)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x[None], x.new_zeros(1, 0))[0][0], torch.ones(8))
    assert jacobian.triu(1).eq(0).all()
    assert (jacobian.tril(-1) != 0).sum() == 28
    torch.testing.assert_close(jacobian.diagonal().log().sum(), layer(torch.ones(1, 8), torch.zeros(1, 0))[1][0])


def test_flow_inverse_of_forward():
    flow, x = copy.deepcopy(fitted(Flow, moons, 2000)), torch.randn(200, 8, generator=generator(3))
    y = torch.zeros(200, 0)
    for layer in flow.layers:
        torch.testing.assert_close(layer.inverse(layer(x, y)[0], y), x, rtol=1e-3, atol=1e-4)
    double = flow.double()
    for layer in double.layers:
        there = layer(x.double(), y.double())[0]
        torch.testing.assert_close(layer.inverse(there, y.double()), x.double(), rtol=1e-9, atol=1e-9)


def test_flow_draws_come_from_the_noise_that_log_prob_maps_them_to(bent):
    draws, noise = bent.draw(20, generator(1)), torch.randn(20, 2, generator=generator(1))
    found = torch.stack([by_hand(bent, z, z.new_zeros(1, 0))[0] for z in draws])
    torch.testing.assert_close(found, noise, rtol=1e-3, atol=1e-3)


def test_flow_density_integrates_to_one(bent):
    a, b = torch.linspace(-8, 8, 401), torch.linspace(-8, 30, 951)
    grid = torch.cartesian_prod(a, b)
    total = bent.log_prob(grid).double().exp().sum() * 0.04 * 0.04
    assert float(total) == pytest.approx(1, abs=2e-3)


def test_flow_of_one_dimension_is_a_gaussian_that_integrates_to_one():
    codes = 3 + 0.5 * torch.randn(2000, 1, generator=generator(0))
    flow = Flow.fit(codes)
    grid = torch.linspace(-3, 9, 4001)[:, None]
    density = flow.log_prob(grid).double().exp() * 12 / 4000
    assert float(density.sum()) == pytest.approx(1, abs=1e-3)
    mean = float((density * grid[:, 0]).sum())
    assert mean == pytest.approx(float(codes.mean()), abs=0.05)
    assert float((density * (grid[:, 0] - mean) ** 2).sum() ** 0.5) == pytest.approx(float(codes.std()), abs=0.05)


def test_flow_on_a_banana_is_near_the_truth(bent):
    codes, held = banana(6000, 0), banana(3000, 1)
    truth, found = float(banana_log_prob(held).mean()), mean_log_prob(bent, held)
    assert one_gaussian(codes, held) + 1.3 < found < truth + 0.01
    assert found > truth - 0.1


def test_flow_on_two_moons_beats_one_gaussian():
    codes, held = moons(6000, 0), moons(2000, 1)
    flow, mixture = (mean_log_prob(fitted(kind, moons, 6000), held) for kind in (Flow, GaussianMixture))
    assert flow > one_gaussian(codes, held) + 0.15
    assert flow > mixture - 0.15


def test_flow_does_not_overfit_few_codes():
    codes, held = torch.randn(300, 20, generator=generator(0)), torch.randn(2000, 20, generator=generator(1))
    assert mean_log_prob(Flow.fit(codes), held) > one_gaussian(codes, held) - 0.2


def test_flow_is_deterministic_and_leaves_no_trace():
    codes = banana(500, 0)
    before = torch.get_rng_state()
    with torch.no_grad():
        first = Flow.fit(codes)
    with torch.inference_mode():
        second = Flow.fit(codes.clone())
    Flow(2)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(p.requires_grad for p in first.parameters())
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


# -- draws -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [GaussianMixture, Flow])
@pytest.mark.parametrize("make", [banana, moons], ids=["banana", "moons"])
def test_draws_are_distributed_as_the_codes(kind, make):
    draws, codes = fitted(kind, make, 6000).draw(2000, generator(7)), make(2000, 2)
    check_same(draws, codes)
    error = codes.std(0) / math.sqrt(2000)
    assert ((draws.mean(0) - codes.mean(0)).abs() < 6 * error).all()
    torch.testing.assert_close(torch.cov(draws.T), torch.cov(codes.T), atol=0.25 * float(codes.var(0).max()), rtol=0.1)


def test_the_two_sample_check_can_fail():
    codes = banana(2000, 2)
    gaussian = MultivariateNormal(codes.mean(0), torch.cov(codes.T))
    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        check_same(gaussian.sample((2000,)), codes)


@pytest.mark.parametrize("kind", ["gmm", "flow"])
@pytest.mark.parametrize("with_labels", [False, True])
def test_saved_and_loaded_draws_are_the_same_bits(kind, with_labels):
    codes, y = islands(600, 0)
    held, held_y = islands(200, 1)
    args = (y, held_y) if with_labels else (None, None)
    sampler = samplers.fit(kind, codes, held, *args)
    config = json.loads(json.dumps(sampler.config, allow_nan=False))
    again = samplers.build(config)
    again.load_state_dict(load(save(sampler.state_dict())))
    labels = held_y if with_labels else None
    first = sampler.draw(200, generator(1), labels)
    assert first.shape == (200, 3)
    assert first.isfinite().all()
    assert torch.equal(first, again.draw(200, generator(1), labels))
    assert torch.equal(first, sampler.draw(200, generator(1), labels))
    assert not torch.equal(first, sampler.draw(200, generator(2), labels))
    assert torch.equal(sampler.log_prob(held, labels), again.log_prob(held, labels))
    assert again.config == sampler.config
    assert again.kind == sampler.kind == kind
    assert again.classes == sampler.classes == (3 if with_labels else 0)
    assert again.scores == sampler.scores == pytest.approx({kind: mean_log_prob(sampler, held, labels)})


def test_configs_without_scores_still_build():
    assert samplers.build({"kind": "gmm", "components": 4, "size": 3}).means.shape == (4, 3)


@pytest.mark.parametrize("kind", [GaussianMixture, Flow])
def test_draws_do_not_depend_on_the_number_of_threads(kind, request):
    request.addfinalizer(lambda: torch.set_num_threads(1))
    sampler, found = kind.fit(moons(500, 0)), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append((sampler.draw(3001, generator(1)), sampler.log_prob(moons(3001, 1))))
        assert torch.get_num_threads() == threads
    for draws, log_p in found[1:]:
        assert torch.equal(draws, found[0][0])
        assert torch.equal(log_p, found[0][1])


# -- auto ------------------------------------------------------------------------------------------------------------
def test_auto_picks_the_prior_for_codes_of_the_prior():
    codes, held = torch.randn(1500, 6, generator=generator(0)), torch.randn(2000, 6, generator=generator(1))
    assert samplers.fit("auto", codes, held, prior=standard) is None
    assert samplers.fit("prior", codes, held) is None


def test_auto_picks_a_fit_for_islands():
    codes, held = islands(1500, 0)[0], islands(1000, 1)[0]
    best = samplers.fit("auto", codes, held, prior=standard)
    assert set(best.scores) == {"gmm", "flow", "prior"}
    assert best.scores[best.kind] == max(best.scores.values()) == pytest.approx(mean_log_prob(best, held))
    assert best.scores["prior"] == pytest.approx(float(standard(held).mean()))
    assert best.scores[best.kind] > best.scores["prior"] + 10


def test_auto_without_a_prior_fits_something():
    codes, held = torch.randn(1500, 6, generator=generator(0)), torch.randn(2000, 6, generator=generator(1))
    best = samplers.fit("auto", codes, held)
    assert best is not None
    assert set(best.scores) == {"gmm", "flow"}


def test_auto_leaves_out_a_prior_of_no_likelihood():
    codes, held = torch.randn(500, 2, generator=generator(0)), torch.randn(500, 2, generator=generator(1))
    best = samplers.fit("auto", codes, held, prior=lambda z: torch.full((len(z),), -math.inf))
    assert set(best.scores) == {"gmm", "flow"}


def test_auto_with_labels_picks_one_kind_for_all():
    codes, y = islands(900, 0)
    held, held_y = islands(500, 1)
    best = samplers.fit("auto", codes, held, y, held_y, prior=standard)
    assert best.classes == 3
    truth = -math.log(0.5 * 0.3 * 0.4) - 1.5 * (math.log(2 * math.pi) + 1)  # minus the entropy of one island
    assert best.scores[best.kind] == max(best.scores.values()) == pytest.approx(truth, abs=0.15)


# -- labels ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["gmm", "flow"])
def test_draws_belong_to_their_class(kind):
    codes, y = islands(3000, 0)
    sampler = samplers.fit(kind, codes, codes[:0], y)
    assert isinstance(sampler, {"gmm": PerLabel, "flow": Flow}[kind])
    assert sampler.scores == {}
    labels = torch.arange(600) % 3
    draws = sampler.draw(600, generator(1), labels)
    nearest = torch.cdist(draws, MEANS).argmin(1)
    assert (nearest == labels).float().mean() > 0.99
    for k in range(3):
        check_same(draws[labels == k], codes[y == k][:200])
    right, wrong = sampler.log_prob(codes, y), sampler.log_prob(codes, (y + 1) % 3)
    assert (right > wrong + 5).float().mean() > 0.99


def test_labels_are_used_by_the_row():
    codes, y = islands(600, 0)
    sampler = PerLabel.fit(GaussianMixture.fit, codes, y, 3)
    for k, part in enumerate(sampler.parts):
        torch.testing.assert_close(sampler.log_prob(codes, y)[y == k], part.log_prob(codes[y == k]))


@pytest.mark.parametrize("kind", ["gmm", "flow"])
def test_tiny_classes(kind):
    """Class 3 has three codes, class 4 one, and class 5 none: the last two fall back to the density of all codes."""
    codes, y = islands(1500, 0)
    codes = torch.cat(
        [codes, torch.tensor([[20.0, 20.0, 20.0], [20.1, 19.9, 20.0], [19.9, 20.0, 20.2], [9.0, 9.0, 9.0]])]
    )
    y = torch.cat([y, torch.tensor([3, 3, 3, 4])])
    held, held_y = islands(300, 1)
    held_y = torch.cat([held_y[:-1], torch.tensor([5])])
    sampler = samplers.fit(kind, codes, held, y, held_y)
    assert sampler.classes == 6
    labels = torch.arange(6).repeat_interleave(300)
    draws = sampler.draw(1800, generator(1), labels)
    assert draws.isfinite().all()
    torch.testing.assert_close(
        sampler.log_prob(held, torch.full((300,), 4)), sampler.log_prob(held, torch.full((300,), 5))
    )
    everything = GaussianMixture.fit(codes)
    orphan = mean_log_prob(sampler, held, torch.full((300,), 5))
    assert orphan > mean_log_prob(everything, held) - 1.5
    for k in (4, 5):
        shares = torch.bincount(torch.cdist(draws[labels == k], MEANS).argmin(1), minlength=3) / 300
        assert (shares - 1 / 3).abs().max() < 0.12
    for k in range(3):
        assert (torch.cdist(draws[labels == k], MEANS).argmin(1) == k).float().mean() > 0.97
    if kind == "gmm":
        assert (draws[labels == 3] - 20).abs().max() < 1
        assert len(sampler.parts[3].weights) == 1


@pytest.mark.parametrize("kind", ["gmm", "flow"])
def test_wrong_labels_are_one_clear_line(kind):
    codes, y = islands(300, 0)
    sampler = samplers.fit(kind, codes, codes[:0], y)
    for labels in (None, torch.tensor([0, 1]), torch.tensor([0, 1, 3]), torch.tensor([0, -1, 2])):
        with pytest.raises(InputError, match="labels") as error:
            sampler.draw(3, generator(0), labels)
        assert "\n" not in str(error.value)
        with pytest.raises(InputError, match="labels"):
            sampler.log_prob(codes[:3], labels)
    with pytest.raises(InputError, match="labels of the validation"):
        samplers.fit(kind, codes, codes, y)


# -- codes that are hard to fit --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["gmm", "flow"])
@pytest.mark.parametrize("constant", [0.0, 5.0, -1e4])
def test_a_collapsed_dimension(kind, constant):
    codes = torch.cat([banana(1000, 0), torch.full((1000, 1), constant)], 1)
    sampler = samplers.fit(kind, codes, codes[:100])
    draws = sampler.draw(1000, generator(1))
    assert (draws[:, 2] - constant).abs().max() < 0.02 * (1 + abs(constant))
    assert math.isfinite(sampler.scores[kind])
    check_same(draws[:, :2], banana(1000, 2))


@pytest.mark.parametrize("kind", ["gmm", "flow"])
@pytest.mark.parametrize("n", [1, 2, 3, 11, 250])
@pytest.mark.parametrize("size", [1, 4])
def test_the_same_code_again_and_again(kind, n, size):
    codes = torch.full((n, size), 0.7)
    sampler = samplers.fit(kind, codes, codes)
    assert (sampler.draw(50, generator(0)) - 0.7).abs().max() < 0.05
    assert math.isfinite(sampler.scores[kind])


@pytest.mark.parametrize("kind", ["gmm", "flow"])
def test_dependent_dimensions(kind):
    plane = torch.randn(4000, 2, generator=generator(0))
    codes = plane @ torch.randn(2, 6, generator=generator(1))
    sampler = samplers.fit(kind, codes, codes)
    draws = sampler.draw(400, generator(2))
    assert torch.linalg.svdvals(draws)[2] < 0.1 * torch.linalg.svdvals(draws)[1]
    assert math.isfinite(sampler.scores[kind])


@pytest.mark.parametrize("kind", ["gmm", "flow"])
def test_one_dimension(kind):
    codes = 3 + 0.5 * torch.randn(1000, 1, generator=generator(0))
    sampler = samplers.fit(kind, codes, codes)
    draws = sampler.draw(4000, generator(1))
    assert draws.shape == (4000, 1)
    assert float(draws.mean()) == pytest.approx(3, abs=0.06)
    assert float(draws.std()) == pytest.approx(0.5, abs=0.04)
    labels = (codes[:, 0] > 3).long()
    sampler = samplers.fit(kind, codes, codes, labels, labels)
    draws = sampler.draw(1000, generator(1), torch.arange(1000) % 2)
    assert float(draws[1::2].mean()) > 3.2
    assert float(draws[0::2].mean()) < 2.8


def test_scale_of_a_constant_dimension_is_positive():
    mean, scale = location_and_scale(torch.tensor([[0.0, 0.0, 100.0], [0.0, 2.0, 100.0]]))
    torch.testing.assert_close(mean, torch.tensor([0.0, 1.0, 100.0]).double())
    torch.testing.assert_close(scale, torch.tensor([1e-3, 1.0, 0.101]).double())


@pytest.mark.parametrize("kind", ["auto", "gmm", "flow"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_codes_that_are_not_finite(kind, bad):
    codes = banana(200, 0)
    spoiled = codes.clone()
    spoiled[7, 1] = bad
    for pair in ((spoiled, codes), (codes, spoiled)):
        with pytest.raises(RunError, match="not finite"):
            samplers.fit(kind, *pair)


def test_nothing_to_fit_or_compare():
    codes = banana(200, 0)
    with pytest.raises(RunError, match="no codes"):
        samplers.fit("gmm", codes[:0], codes)
    with pytest.raises(InputError, match="validation"):
        samplers.fit("auto", codes, codes[:0])
    with pytest.raises(InputError, match="vine"):
        samplers.fit("vine", codes, codes)
    assert samplers.fit("gmm", codes, codes[:0]).scores == {}


@pytest.mark.parametrize("kind", ["flow", "gmm", "auto"])
def test_codes_of_no_class_are_left_out_of_none(kind):
    """Labels of -1, as of images of which nothing is told."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3 - 1
    codes = torch.randn(600, 2, generator=generator) + 4 * labels[:, None]
    found = samplers.fit(kind, codes, codes[:60], labels, labels[:60], None, None, 2)
    drawn = found.draw(200, generator, torch.ones(200, dtype=torch.long))
    assert drawn.mean() > 2.5


def test_of_many_images_some_are_encoded_and_of_each_class_enough():
    assert torch.equal(samplers.rows_to_fit(samplers.CODES), torch.arange(samplers.CODES))
    rows = samplers.rows_to_fit(250_000)
    assert len(rows) == 83_334
    assert rows.diff().unique().tolist() == [3]
    labels = torch.arange(300_000) % 2
    labels[:500] = 2
    labels[1000:250_000] = -1
    kept = torch.bincount(labels[samplers.rows_to_fit(300_000, labels)] + 1).tolist()
    assert kept == [83_000, 12_625, 12_625, 500]


def test_no_more_is_encoded_than_is_fitted(monkeypatch):
    monkeypatch.setattr(samplers, "CODES", 20)
    monkeypatch.setattr(samplers, "HELD", 5)
    data = tiny_data((1, 8, 8))  # 48 training images, 16 for validation
    model = lf.create("autoencoder", image_shape=(1, 8, 8), net="mlp", hidden=(4,), latent_dim=2)
    model.sampler_kind, encode, seen = "gmm", model.encode, []
    monkeypatch.setattr(model, "encode", lambda x, y=None: (seen.append(len(x)), encode(x, y))[1])
    model.fit_sampler(data.train, data.validation)
    assert seen == [16, 5]
    assert model.sampler is not None


def test_a_mixture_for_each_of_many_classes_is_given_time():
    assert [samplers.seconds_for("gmm", classes) for classes in (0, 10, 1000)] == [20, 20, 50]
    assert [samplers.seconds_for(kind, 1000) for kind in ("prior", "flow", "auto")] == [0, 20, 50]


def test_thread_pools_are_looked_for_once(monkeypatch):
    codes, y = islands(600, 0)
    looked, find = [], threadpoolctl.ThreadpoolController
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda: (looked.append(1), find())[1])
    PerLabel.fit(GaussianMixture.fit, codes, y, 3)
    assert len(looked) <= 1
