"""What the codes of held-out images hold.

codes-frechet: Frechet distance from the codes sampled from to those of held-out images, lower is better. active-units:
dimensions whose posterior mean varies by more than .01 over images (Burda et al. 2016, arXiv:1509.00519, section 5.2).
mutual-information: E log q(z | x) - log q(z) in nats over N images (Hoffman & Johnson 2016), at most log N. 1-nn and
linear-probe: the share of test images whose class the nearest training code, or a logistic regression on training codes,
tells. Higher is better for all but the first.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from latentforge.clock import seeded
from latentforge.data.batch import at_once
from latentforge.game import evaluating, generator_of
from latentforge.metrics.distance import frechet_distance
from latentforge.metrics.intervals import around, around_mean
from latentforge.metrics.pca import PCA
from latentforge.metrics.subject import SAMPLES, Row, Subject, short, some
from latentforge.parts.gaussian import Squashed

ACTIVE = 0.01
PAIRS = 1000  # images whose posteriors are compared with each other
PROBE = 10_000  # training codes a probe learns from


def active_units(mean: Tensor) -> int:
    """Dimensions of posterior means (N, Z) that follow the image."""
    return int((mean.double().var(0) > ACTIVE).sum())


def mutual_information(q: Any, noise: Tensor) -> Tensor:
    """log q(z_n | x_n) - log 1/N sum_m q(z_n | x_m), (N,) nats, for posteriors q of N images and noise (N, Z)."""
    z = q.sample(noise)
    aggregate = torch.stack([q.log_prob(z[i].expand_as(z)).logsumexp(0) for i in range(len(z))]) - math.log(len(z))
    return q.log_prob(z) - aggregate


def one_nn(train: Tensor, classes: Tensor, codes: Tensor, chunk: int = 1000) -> Tensor:
    """The class of the nearest training code, (N,)."""
    return torch.cat([classes[torch.cdist(c, train).argmin(1)] for c in codes.double().split(chunk)])


def linear_probe(train: Tensor, classes: Tensor, codes: Tensor) -> Tensor:
    """The class a logistic regression on standardised training codes gives, (N,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(train.numpy(), classes.numpy())
    return torch.from_numpy(probe.predict(codes.numpy()))


def rows(s: Subject) -> list[Row]:
    if not s.model.has_encoder or s.n < 2:
        return []
    return matching(s) + information(s) + probes(s)


def matching(s: Subject) -> list[Row]:
    """How well the codes that are sampled from match those of held-out images."""
    if not s.model.can_sample:
        return []
    n = min(s.n, SAMPLES)
    with seeded(s.seed, s.model.device):
        real, floor = (s.model.codes_of(part.select(part.spread(n)))[0] for part in (s.held, s.data.train))
    generator = generator_of(s.seed, 0xC0DE)  # apart from the noise of the codes themselves
    trivial = real.mean(0) + real.std(0) * torch.randn(n, real.shape[1], generator=generator)

    def statistic(a: Tensor, b: Tensor) -> dict[str, float]:
        return {"d": frechet_distance(a, b)}

    found = around(statistic, (real, s.model.draw_codes(n, s.seed)), s.repeats)
    return [{
        "measure": f"codes-frechet-{short(n)}", **found["d"], "better": "lower",
        "baseline": statistic(real, trivial)["d"], "which": "independent Gaussians",
        "reference": statistic(real, floor)["d"], "is": "training images", "images": n, "sampler": s.sampler,
    }]  # fmt: skip


@torch.no_grad()
def information(s: Subject) -> list[Row]:
    """What a posterior with a spread tells of its image; nothing for encoders without one."""
    batch = s.held[s.held.spread(min(PAIRS, s.n, at_once(s.held.shape, PAIRS)))]
    with evaluating(s.model):
        q = s.model.encode(batch.image.to(s.model.device), s.model.labels_of(batch))
    base = q.base if isinstance(q, Squashed) else q
    if not hasattr(base, "log_prob"):
        return []
    noise = torch.randn(base.mean.shape, generator=torch.Generator().manual_seed(s.seed)).to(base.mean.device)
    found = around_mean(mutual_information(base, noise).cpu())
    n = len(batch)
    return [
        {"measure": "active-units", "value": active_units(base.mean.cpu()), "better": "higher", "images": n,
         "reference": base.mean.shape[1], "is": "size of the code"},
        {"measure": f"mutual-information-{short(n)}", **found, "better": "higher",
         "reference": math.log(n), "is": "its bound, log N", "images": n},
    ]  # fmt: skip


def probes(s: Subject) -> list[Row]:
    """How well codes tell classes apart, beside as many principal components."""
    labels = s.held.labels
    if s.data.num_classes < 2 or labels is None or s.model.condition is not None:  # codes that need not hold the class
        return []
    train, held = some(s.data.train.labelled(), PROBE), s.held[s.held.spread(s.n)]
    if train.label is None or held.label is None or len(train.label.unique()) < 2:
        return []
    codes = [s.model.mean_codes(b.image).cpu().double() for b in (train, held)]
    pca = PCA(train.image, s.model.latent_dim)
    linear = [pca(b.image) for b in (train, held)]
    out = []
    for name, probe in (("1-nn", one_nn), ("linear-probe", linear_probe)):
        right = [(probe(a, train.label, b) == held.label).double() for a, b in (codes, linear)]
        out.append({
            "measure": f"{name}-{short(len(train.label))}", **around_mean(right[0]), "better": "higher",
            "baseline": float(right[1].mean()), "which": f"PCA-{len(pca.variances)}", "images": len(held.label),
        })  # fmt: skip
    return out
