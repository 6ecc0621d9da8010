"""Few labels: what the families share that learn to classify from a few labelled images and many without (label -1).

The stream of training images has no labels for them: `meet` keeps the labelled ones apart, and every round draws some
of these (`draw_known`) beside a batch of all. A family writes its networks, its round and `class_logits`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentforge.data.batch import Batch, Images
from latentforge.errors import InputError
from latentforge.game import Game, Term, evaluating
from latentforge.parts.augment import translation
from latentforge.parts.smooth import virtual_adversarial
from latentforge.tasks.encode import images_of, need_shape


class SemiSupervised(Game):
    """Base of the families that learn from few labels.

    Args:
        num_classes: number of classes; follows from the data
        smooth: weight of virtual adversarial training: p(y | x) of unlabelled images is to change little under the worst
          small perturbation
        smooth_length: length of that perturbation, Euclidean over the pixels
        shift: labelled images, and the perturbed ones, are shifted at random by up to this share of their sides; rows of a
          table are not
        certain: weight of entropy minimisation on unlabelled images; grows over the first half of the training
        balance: weight of the divergence of their mean p(y | x) from the class frequencies among labelled images
    """

    half_pays = True
    batch_size = 100
    schedule = "cosine"
    known_classes: Tensor  # (K,) how frequent the classes are among them
    known: Images  # the labelled training images
    known_share: float  # of all training images

    def __init__(
        self, num_classes: int = 0, smooth: float = 1.0, smooth_length: float = 2.0, shift: float = 0.07,
        certain: float = 1.0, balance: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        if num_classes < 2:
            raise ValueError("give num_classes, the number of classes of the data, at least 2")
        self.num_classes, self.smooth, self.smooth_length = num_classes, smooth, smooth_length
        self.shift, self.certain, self.balance = shift, certain, balance
        self.register_buffer("known_classes", torch.full((num_classes,), 1 / num_classes))

    def class_logits(self, x: Tensor) -> Tensor:
        """(B, K) unnormalised log p(y | x) of images in `pixel_range`."""
        raise TypeError(f"{type(self).__name__} must define class_logits()")

    def meet(self, data: Images) -> None:
        """Keep the labelled images apart. InputError where there are none, descriptors, or a class has none."""
        if data.labels is None or data.labels.is_floating_point():
            raise InputError(f"{self.name} learns classes, and these images have none; label some of them.")
        index = torch.nonzero(data.labels >= 0)[:, 0]
        missing = sorted(set(range(self.num_classes)) - set(data.labels[index].tolist()))
        if missing:
            raise InputError(
                f"{self.name} needs a labelled training image of each class, and class {missing[0]} has none; label one, or "
                "give more --labels."
            )
        self.known_share = len(index) / len(data)
        self.known_classes.copy_(torch.bincount(data.labels[index].cpu(), minlength=self.num_classes) / len(index))
        if self.condition is not None:
            self.condition.learn(data.labels[index])
        self.known = data.labelled()

    def leave(self) -> None:
        del self.known

    def draw_known(self, n: int, t: Any) -> tuple[Tensor, Tensor]:
        """n labelled images (n, C, H, W) in [0, 1] and their classes (n,), drawn anew with each round."""
        batch = self.known[(t.rand(n).cpu() * len(self.known)).long()]
        assert batch.label is not None
        return self.moved(batch.image.to(self.device), t), batch.label.to(self.device)

    def moved(self, x: Tensor, t: Any) -> Tensor:
        """Images (B, C, H, W), each moved by its own draw; a table's rows (B, 1, 1, D) as they are."""
        return translation(x, t, self.shift) if self.shift and min(x.shape[2:]) > 1 else x

    def labelled_cost(self, logits: Tensor, y: Tensor, t: Any) -> Tensor:
        """-log p(y | x), mean over labelled images."""
        cost = F.cross_entropy(logits.float(), y)
        t.log("class_nats", cost)
        t.log("labelled_error", (logits.argmax(1) != y).float())
        return cost

    def unlabelled_cost(self, x: Tensor, logits: Tensor, t: Any) -> Tensor:
        """What is asked of p(y | x) at unlabelled images: no change nearby, certainty, and classes as frequent as labels."""
        log_p = logits.float().log_softmax(1)
        total = torch.zeros((), device=x.device)
        if self.smooth:
            near = self.moved(x, t)
            away = virtual_adversarial(self.log_classes, near, log_p, t.randn(*x.shape), self.smooth_length).mean()
            t.log("smooth_nats", away)
            total = total + self.smooth * away
        if self.certain:
            entropy = -(log_p.exp() * log_p).sum(1).mean()
            t.log("entropy_nats", entropy)
            begun = self.begins[-1] if self.begins else 0.0  # at first nothing is known to be sure of
            total = total + self.certain * min(1.0, 2 * (t.progress - begun) / (1 - begun)) * entropy
        if self.balance:  # else all unlabelled images may end in one class, certainly and smoothly
            mean = log_p.exp().mean(0)
            total = total + self.balance * (mean * (mean.clamp(min=1e-8).log() - self.known_classes.log())).sum()
        return total

    def log_classes(self, x: Tensor) -> Tensor:
        """log p(y | x), (B, K), of images in `pixel_range`; differentiable."""
        return self.class_logits(x).float().log_softmax(1)

    @torch.no_grad()
    def classify(self, images: Any) -> Tensor:
        """log p(y | x), (N, K), of images as `embed` takes them, in eval mode and bounded memory."""
        given = images_of(images)
        need_shape(self, given.shape, "images")
        with evaluating(self):
            parts = (self.to_network(b.image.to(self.device)) for b in given.batches())
            return torch.cat([self.log_classes(x) for x in parts])

    def class_measures(self, batch: Batch) -> dict[str, Tensor]:
        """Entropy of p(y | x) (B,), and of the labelled images among them -log p(y | x) and 1 where the likeliest class is
        wrong; neither where none is labelled."""
        log_p = self.log_classes(self.to_network(batch.image))
        found = {"entropy_nats": -(log_p.exp() * log_p).sum(1)}
        if batch.label is None or batch.label.is_floating_point() or not (batch.label >= 0).any():
            return found
        known = batch.label >= 0
        log_p, y = log_p[known], batch.label[known]
        return found | {"error": (log_p.argmax(1) != y).float(), "class_nats": F.nll_loss(log_p, y, reduction="none")}

    def class_terms(self, player: str) -> list[Term]:
        """The costs of labels as `explain` shows them."""
        return [
            Term(player, "-log p(y|x'), x labelled,  x' = x moved by up to --shift"),
            Term(player, "KL(p(y|x) || p(y|x'+r)), x unlabelled", self.smooth),
            Term(player, "H(p(y|x)), x unlabelled, from 0 up over half of its training", self.certain),
            Term(player, "KL(E p(y|x) || p(y)), x unlabelled", self.balance),
        ]
