"""The importance weighted bound against its formula in float64, against the ELBO, and against an exact likelihood."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

import latentforge as lf
from latentforge.parts.likelihood import importance_bound
from playing import assert_same, build, clock, feed, gradients, images, taken

B, Z, K = 6, 3, 4
DENSE = {"net": "mlp", "hidden": (10,), "latent_dim": Z}
VARIANTS = {
    "plain": {},
    "gaussian": {"likelihood": "gaussian", "sigma": 0.3},
    "full": {"posterior": "full", "prior_mean": (0.4, -0.2, 0.1), "prior_scale": (1.5, 0.7, 1.1)},
    "uniform": {"prior": "uniform"},
}


def log_weight(model, twin, x: Tensor, noise: Tensor) -> Tensor:
    """log p(x, z) - log q(z | x) of one image and one draw, in float64, all densities written out or torch's."""
    h = twin.encoder(x[None])[0]
    mean, rest = h[:Z], h[Z:]
    if model.posterior == "full":
        rows = [[rest[i].exp() if i == j else 0 * rest[0] for j in range(Z)] for i in range(Z)]
        below = iter(rest[Z:])
        for i in range(Z):
            for j in range(i):
                rows[i][j] = next(below)
        scale = torch.stack([torch.stack(row) for row in rows])
    else:
        scale = torch.diag((rest / 2).exp())
    u = mean + scale @ noise
    log_q = MultivariateNormal(mean, scale_tril=scale).log_prob(u)
    prior = MultivariateNormal(twin.prior_mean, scale_tril=twin.prior_scale)
    z = torch.erf(u / math.sqrt(2)) if model.prior == "uniform" else u  # 2 Phi(u) - 1
    p = 1 / (1 + (-twin.decoder(z[None])[0]).exp())
    if model.likelihood == "gaussian":
        log_p = -0.5 * (((x - p) / 0.3) ** 2 + math.log(2 * math.pi * 0.3**2)).sum()
    else:
        log_p = (x * p.log() + (1 - x) * (1 - p).log()).sum()
    return log_p + prior.log_prob(u) - log_q


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_bound_and_its_gradient(variant):
    """Equation 8: -log of the mean weight, image by image and particle by particle."""
    model = build("iwae", **DENSE, **VARIANTS[variant], particles=K)
    twin, x = copy.deepcopy(model).double(), images(B)
    noise = clock().randn(B, K, Z)
    expected = torch.stack([
        -torch.stack([log_weight(model, twin, x[i].double(), noise[i, k].double()) for k in range(K)]).exp().mean().log()
        for i in range(B)
    ])  # fmt: skip
    torch.testing.assert_close(importance_bound(model, x, noise).double(), expected, rtol=1e-5, atol=1e-4)
    t = clock()
    (move,) = model.play(feed(x), t)
    assert t.logged["loss"].item() == pytest.approx(expected.mean().item(), rel=1e-5)
    parts = {"vae": [*twin.encoder.parameters(), *twin.decoder.parameters()]}
    assert_same(taken(model, move), gradients({"vae": expected.mean()}, parts))


def test_one_particle_is_the_sampled_elbo():
    model = build("iwae", **DENSE, particles=1)
    x, noise = images(B), torch.randn(B, 1, Z)
    mean, log_variance = model.encoder(x).chunk(2, 1)
    z = mean + (log_variance / 2).exp() * noise[:, 0]
    p = torch.sigmoid(model.decoder(z)).double()
    nll = -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    log_q = -0.5 * (noise[:, 0] ** 2 + log_variance + math.log(2 * math.pi)).double().sum(1)
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).double().sum(1)
    torch.testing.assert_close(importance_bound(model, x, noise).double(), nll + log_q - log_p, rtol=1e-5, atol=1e-4)


def test_never_looser_than_the_elbo_and_tighter_with_more_particles():
    """On the same weights; far beyond the sampling error, as q is not the posterior here."""
    model, n = build("iwae", **DENSE, grown=2.0), 1500
    x = images(4).repeat_interleave(n, 0)
    torch.manual_seed(0)
    with torch.no_grad():
        h = model.encoder(x)
        mean, log_variance = h[:, :Z], h[:, Z:]
        z = mean + (log_variance / 2).exp() * torch.randn(len(x), Z)
        p = torch.sigmoid(model.decoder(z))
        nll = -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
        elbo = nll + 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1)
        losses = [elbo, *[importance_bound(model, x, torch.randn(len(x), k, Z)) for k in (1, 5, 50)]]
    means = [float(v.double().mean()) for v in losses]
    errors = [float(v.double().std()) / math.sqrt(len(v)) for v in losses]
    assert abs(means[1] - means[0]) < 5 * math.hypot(errors[0], errors[1])
    for looser, tighter in ((0, 2), (1, 2), (2, 3)):
        assert means[looser] - means[tighter] > 5 * math.hypot(errors[looser], errors[tighter])


# -- where the likelihood is known -----------------------------------------------------------------------------------
SIGMA = 0.1


class LinearMean(nn.Module):
    """The decoder whose mean is .5 + W z, the model's sigmoid undone."""

    def __init__(self, w: Tensor):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, z: Tensor) -> Tensor:
        return torch.logit(0.5 + z @ self.w.T).unflatten(1, (1, 2, 2))


class Posterior(nn.Module):
    """q of that decoder: exact, or off by a share of its standard deviation and too wide."""

    def __init__(self, w: Tensor, off: float, wider: float):
        super().__init__()
        self.covariance = torch.linalg.inv(torch.eye(2) + w.T @ w / SIGMA**2)
        self.gain, self.off, self.wider = self.covariance @ w.T / SIGMA**2, off, wider

    def forward(self, x: Tensor) -> Tensor:
        variance = self.covariance.diagonal()
        mean = (x.flatten(1) - 0.5) @ self.gain.T + self.off * variance.sqrt()
        return torch.cat([mean, (variance.log() + self.wider).expand_as(mean)], 1)


def linear_gaussian(off: float = 0.0, wider: float = 0.0) -> tuple[lf.Game, Tensor, Tensor]:
    """(model, images drawn from it, -log p(x) of each): x ~ N(.5, W W' + sigma^2 I), W with orthogonal columns."""
    torch.manual_seed(0)
    model = lf.create("iwae", image_shape=(1, 2, 2), latent_dim=2, net="mlp", hidden=(4,), likelihood="gaussian",
                      sigma=SIGMA)  # fmt: skip
    w = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]]) * torch.tensor([0.05, 0.03])
    model.decoder, model.encoder = LinearMean(w), Posterior(w, off, wider)
    x = 0.5 + torch.randn(8, 2) @ w.T + SIGMA * torch.randn(8, 4)
    wide = w.double()
    marginal = MultivariateNormal(torch.full((4,), 0.5).double(), wide @ wide.T + SIGMA**2 * torch.eye(4).double())
    return model, x.unflatten(1, (1, 2, 2)), -marginal.log_prob(x.double())


@pytest.mark.parametrize("k", [1, 3])
def test_with_the_exact_posterior_every_weight_is_the_likelihood(k):
    model, x, exact = linear_gaussian()
    for _ in range(3):
        torch.testing.assert_close(importance_bound(model, x, torch.randn(8, k, 2)).double(), exact, rtol=0, atol=2e-4)


def test_many_particles_find_the_likelihood():
    """With a posterior that is off, one code is far from it, a thousand are near."""
    model, x, exact = linear_gaussian(off=0.8, wider=0.7)
    model.requires_grad_(False)
    few = (
        importance_bound(model, x.repeat_interleave(500, 0), torch.randn(4000, 1, 2))
        .unflatten(0, (8, 500))
        .mean(1)
        .double()
    )
    many = importance_bound(model, x, torch.randn(8, 1000, 2)).double()
    assert (few - exact > 0.2).all()
    torch.testing.assert_close(many, exact, rtol=0, atol=0.1)
    assert abs(float((many - exact).mean())) < 0.05


# -- around it -------------------------------------------------------------------------------------------------------
def test_evaluate_has_both_bounds():
    model = build("iwae", **DENSE, particles=20).eval()
    batch = next(feed(images(40)))
    torch.manual_seed(0)
    with torch.no_grad():
        out = model.evaluate(batch)
    assert out["iwae_nats"].shape == out["loss_nats"].shape == (40,)
    assert float(out["iwae_nats"].mean()) < float(out["loss_nats"].mean())
    torch.testing.assert_close(out["loss_nats"], out["reconstruction_nats"] + out["kl_nats"])


@pytest.mark.parametrize("extra", [{"beta": 2.0}, {"kl_warmup": 10}, {"free_bits": 0.1}], ids=str)
def test_what_weighs_a_kl_term_is_refused(extra):
    with pytest.raises(ValueError, match="no KL term"):
        lf.create("iwae", image_shape=(1, 4, 4), **extra)
