"""Whether single dimensions of the code follow single factors of the images, on data whose factors are known (the set
`shapes`). Higher is better for all; all lie in [0, 1].

mig: mutual information gap (Chen et al. 2018, arXiv:1802.04942, section 4.1), factors and codes cut into 20 bins.
dci: disentanglement, completeness and informativeness (Eastwood & Williams 2018, section 2) from the importances of random
forests; informativeness is R^2 on a half of the images chosen at random. sap: the gap in R^2 between the two codes that best
predict a factor linearly (Kumar et al. 2018, arXiv:1711.00848, section 3).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from latentforge.metrics.subject import Row, Subject, short

BINS = 20
IMAGES = 2000
TREES = 50


def mig(codes: Tensor, factors: Tensor) -> float:
    """Mean over factors (N, D) of the gap between the two codes (N, Z) that know most of it, over the factor's entropy."""
    from sklearn.metrics import mutual_info_score

    z, v = binned(codes), binned(factors)
    gaps = []
    for k in range(v.shape[1]):
        information = np.sort([mutual_info_score(z[:, j], v[:, k]) for j in range(z.shape[1])])[::-1]
        second = information[1] if len(information) > 1 else 0.0
        gaps.append((information[0] - second) / mutual_info_score(v[:, k], v[:, k]))
    return float(np.mean(gaps))


def dci(codes: Tensor, factors: Tensor) -> dict[str, float]:
    """`dci-disentanglement`, `dci-completeness` and `dci-informativeness`."""
    from sklearn.ensemble import RandomForestRegressor

    z, v = codes.numpy(), factors.numpy()
    one, other = np.array_split(np.random.default_rng(0).permutation(len(z)), 2)  # images may be sorted by a factor
    forests = [RandomForestRegressor(TREES, min_samples_leaf=3, random_state=0).fit(z[one], f) for f in v[one].T]
    told = [max(0.0, forest.score(z[other], f)) for forest, f in zip(forests, v[other].T, strict=True)]
    weight = np.stack([f.feature_importances_ for f in forests], 1)  # (Z, D)
    whole = max(weight.sum(), 1e-12)  # no code that never changes has a weight
    return {
        "dci-disentanglement": float(concentration(weight) @ (weight.sum(1) / whole)),
        "dci-completeness": float(concentration(weight.T) @ (weight.sum(0) / whole)),
        "dci-informativeness": float(np.mean(told)),
    }


def concentration(weight: np.ndarray) -> np.ndarray:
    """1 minus the entropy of each row, in units of the largest it can have."""
    if weight.shape[1] < 2:
        return np.ones(len(weight))
    share = weight / np.maximum(weight.sum(1, keepdims=True), 1e-12)
    entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(1)
    return 1 - entropy / np.log(weight.shape[1])


def sap(codes: Tensor, factors: Tensor) -> float:
    """Mean over factors of the gap between the two largest squared correlations with a code."""
    z, v = (standard(x.double()) for x in (codes, factors))
    best = (z.T @ v / len(z)).square().topk(min(2, z.shape[1]), dim=0).values  # (2, D)
    return float((best[0] - (best[1] if len(best) > 1 else 0)).mean())


def standard(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-12)


def binned(x: Tensor) -> np.ndarray:
    """Each column of (N, D) as the number of its equally wide bin."""
    v = x.double().numpy()
    low, high = v.min(0), v.max(0)
    return np.minimum((v - low) / np.maximum(high - low, 1e-12) * BINS, BINS - 1).astype(int)


def scores(codes: Tensor, factors: Tensor) -> dict[str, float]:
    return {"mig": mig(codes, factors), **dci(codes, factors), "sap": sap(codes, factors)}


def rows(s: Subject) -> list[Row]:
    if not s.data.descriptors or not s.model.has_encoder or s.model.condition is not None or s.n < 8:
        return []
    batch = s.held[s.held.spread(min(IMAGES, s.n))]
    assert batch.label is not None
    factors = batch.label[:, batch.label.std(0) > 0]  # one that never changes cannot be told
    if not factors.shape[1]:
        return []
    found = scores(s.model.mean_codes(batch.image).cpu().double(), factors)
    pca = s.pca(s.model.latent_dim)
    trivial = scores(pca(batch.image), factors)
    n = len(batch)
    return [
        {"measure": f"{m}-{short(n)}", "value": v, "better": "higher", "baseline": trivial[m],
         "which": f"PCA-{len(pca.variances)}", "images": n}
        for m, v in found.items()
    ]  # fmt: skip
