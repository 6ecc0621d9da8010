"""What is looked at, every now and then, to tell how a run is doing: cheap numbers on 256 images, most of them relative to
what real images score, so that one threshold serves every data set.

diversity    mean distance between samples, over that between real images
duplicates   share of samples whose nearest other sample is nearer than a quarter of what is usual among real images
coverage     share of real images with a sample in their neighbourhood
nearest      median distance of samples to the nearest training image, over that of held-out images; divided by what the same
             is with the two sets exchanged, so that blurred samples, which are near to all images, are at 1
critic_tells how often the critic ranks a held-out image above a sample: .5 is a guess, 1 always
critic_knows how often it ranks a training image above a held-out one: .5 where it remembers none
rebuilt      variance over reconstructions, over that of their images
gap          squared error of held-out over that of training images
active       share of code dimensions whose posterior mean follows the image
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentforge.clock import mix, seeded
from latentforge.data.batch import Batch, Images, at_once
from latentforge.data.dataset import Dataset
from latentforge.errors import InputError
from latentforge.game import Game, evaluating
from latentforge.metrics.codes import active_units
from latentforge.metrics.coverage import neighbourhoods
from latentforge.metrics.memorisation import memorisation_ratio, nearest_distance
from latentforge.parts.gaussian import Squashed

LOOKED_AT = 256  # images and samples
KNOWN = 5000  # training images that samples are held against
NEAR = 0.25


@torch.no_grad()
def signs(model: Game, data: Dataset, seed: int) -> dict[str, float]:
    """The signs a model can give, on the images of a data set; repeatable under the seed."""
    n = at_once(data.image_shape, LOOKED_AT)
    held, known = (part[part.spread(n)] for part in (data.validation, data.train))
    if len(held) < 8:
        return {}
    out: dict[str, float] = {}
    with evaluating(model), seeded(mix(seed, 0x516), model.device):
        fake = draw(model, held, seed)
        if fake is not None:
            out |= of_samples(fake, held.image.cpu(), data.train)
        if model.has_encoder:
            out |= of_codes(model, held, known)
        out |= of_critic(model, held, known)
    return out


def draw(model: Game, held: Batch, seed: int) -> Tensor | None:
    """As many samples as held-out images, with their labels. Until a sampler is fitted, after training or by a later
    stage, codes come from one Gaussian on those of held-out images; None where there are no codes to draw."""
    n, y = len(held), model.told_with(held)
    if model.sampler is None and model.has_encoder and (model.sampler_kind != "prior" or not model.has_prior):
        codes = model.encode(held.image.to(model.device), y).sample().cpu().double()
        noise = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        centre = codes.mean(0)
        codes = centre + noise @ (codes - centre) / max(1, n - 1) ** 0.5
        return model.decode(codes.float(), y).cpu()
    return model.decode(model.draw_codes(n, seed, y), y).cpu() if model.can_sample else None


def of_samples(fake: Tensor, real: Tensor, train: Images) -> dict[str, float]:
    """Signs of samples (N, C, H, W) beside held-out images."""
    a, b = fake.flatten(1).double(), real.flatten(1).double()
    between_fakes, between_reals = torch.cdist(a, a), torch.cdist(b, b)
    far = torch.full((len(a),), torch.inf, dtype=torch.float64).diag()
    usual = (between_reals + far[: len(b), : len(b)]).amin(1).median()
    known, held = Images(train.pixels[train.spread(4 * at_once(train.shape, KNOWN // 4))]), Images(real)
    familiar = train[train.spread(len(real))].image.cpu()

    def nearness(unseen: Tensor, to: Images) -> float:
        return memorisation_ratio(nearest_distance(fake, to), nearest_distance(unseen, to))

    return {
        "diversity": float(between_fakes.mean() / between_reals.mean().clamp(min=1e-12)),
        "duplicates": float(((between_fakes + far).amin(1) < NEAR * usual).double().mean()),
        "coverage": neighbourhoods(b, a)["coverage"],
        "nearest": nearness(real, known) / max(nearness(familiar, held), 1e-12),
    }


def of_codes(model: Game, held: Batch, known: Batch) -> dict[str, float]:
    """Signs of the encoder and of what is rebuilt from it."""
    x, y = held.image.to(model.device), model.labels_of(held)
    rebuilt = model.reconstruct(x, y)
    error = (rebuilt - x).square().mean()
    seen = known.image.to(model.device)
    error_seen = (model.reconstruct(seen, model.labels_of(known)) - seen).square().mean()
    q = model.encode(x, y)
    out = {
        "rebuilt": float(rebuilt.var(0).mean() / x.var(0).mean().clamp(min=1e-12)),
        "gap": float(error / error_seen.clamp(min=1e-12)),
    }
    base = q.base if isinstance(q, Squashed) else q
    if hasattr(base, "log_prob"):
        out["active"] = active_units(base.mean.cpu()) / base.mean.shape[1]
    return out


def of_critic(model: Game, held: Batch, known: Batch) -> dict[str, float]:
    """Signs of the critic's verdicts; none of models without one, or whose critic judges codes."""
    try:
        model.critic_eyes()
    except InputError:
        return {}
    found, remembered = (model.evaluate(b.to(model.device)) for b in (held, known))
    if "critic_real_logit" not in found:
        return {}
    real, fake = (found[f"critic_{k}_logit"].cpu() for k in ("real", "fake"))
    return {
        "critic_tells": ranks_above(real, fake),
        "critic_knows": ranks_above(remembered["critic_real_logit"].cpu(), real),
    }


def ranks_above(a: Tensor, b: Tensor) -> float:
    """The share of pairs with a > b, ties counted half: the area under the ROC curve."""
    difference = a.double()[:, None] - b.double()[None]
    return float((difference > 0).double().mean() + 0.5 * (difference == 0).double().mean())
