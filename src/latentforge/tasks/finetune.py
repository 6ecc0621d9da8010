"""Pre-training: a trained model's encoder or critic as the start of a classifier, and what that gains over random weights.

The network's last dense layer gives way to one with an output per class, and all of it is trained on labelled images, what was
there before more slowly than the new layer.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentforge import registry
from latentforge.clock import mix, seeded
from latentforge.data.arrays import labels_from_array, numbered
from latentforge.data.batch import Images
from latentforge.data.dataset import Dataset
from latentforge.data.hide import hide_labels
from latentforge.errors import InputError
from latentforge.game import Game, evaluating
from latentforge.metrics.intervals import mean_and_interval
from latentforge.nets.condition import before_last, last_linear
from latentforge.tasks.encode import images_of, need_shape

BATCH = 100


class FineTuned(nn.Module):
    """A network of a model with a new last layer: images (B, C, H, W) in [0, 1] -> logits (B, K)."""

    classes: list[str] | None = None  # of the K logits, where labels were texts

    def __init__(self, model: Game, part: str, classes: int):
        super().__init__()
        pixels = fed_range(model, part)
        if pixels is None:
            raise InputError(f"the {part} of {model.name} does not see images alone.")
        self.part, (self.low, self.high) = part, pixels
        self.network: Any = copy.deepcopy(getattr(model, part)).requires_grad_(True)
        self.new = nn.Linear(last_linear(self.network)[1].in_features, classes).to(model.device)

    def features(self, image: Tensor) -> Tensor:
        """(B, F): what the network's own last dense layer is given."""
        return before_last(self.network, lambda: self.network(image * (self.high - self.low) + self.low)).float()

    def forward(self, image: Tensor) -> Tensor:
        if not image.is_floating_point():
            raise InputError("give images as floats in [0, 1]; classify() takes bytes too.")
        return self.new(self.features(image))

    @torch.no_grad()
    def classify(self, images: Any) -> Tensor:
        """log p(y | x), (N, K), of images as `embed` takes them, in eval mode and bounded memory."""
        device = self.new.weight.device
        with evaluating(self):
            return torch.cat([self(b.image.to(device)).log_softmax(1) for b in images_of(images).batches()])


def pick_part(model: Game, part: str) -> str:
    """The encoder where there is one that sees images alone, else the critic of images. InputError where the model has neither,
    or not the one asked for."""
    if part not in ("auto", "encoder", "critic"):
        raise InputError(f"part={part!r} is not possible: choose auto, encoder or critic.")
    able = [k for k in ("encoder", "critic") if isinstance(getattr(model, k, None), nn.Module) and fed_range(model, k)]
    if not able:
        raise InputError(f"{model.name} has no encoder or critic that sees images alone; take vae, vae-gan or dcgan.")
    if part != "auto" and part not in able:
        raise InputError(f"{model.name} has no {part} that sees images alone; take --part {able[0]}.")
    return able[0] if part == "auto" else part


@torch.no_grad()
def fed_range(model: Game, part: str) -> tuple[float, float] | None:
    """The range of pixels the network is fed; None where it is not fed images alone (codes, or a condition too)."""
    seen: list[tuple] = []
    grey = torch.full((2, *model.image_shape), 0.25, device=model.device)
    network = getattr(model, part)
    try:
        with network.register_forward_pre_hook(lambda _, given: seen.append(given)), evaluating(model):
            model.encode(grey) if part == "encoder" else network(model.to_network(grey))
    except (InputError, RuntimeError, TypeError, IndexError):
        return None
    if len(seen) != 1 or len(seen[0]) != 1 or seen[0][0].shape != grey.shape:
        return None
    return (0.0, 1.0) if torch.equal(seen[0][0], grey) else model.pixel_range


def finetune(
    model: Game, images: Any, labels: Any = None, *, part: str = "auto", pretrained: bool = True,
    steps: int = 500, lr: float = 1e-3, body_lr: float = 3e-4, seed: int = 0,
) -> FineTuned:  # fmt: skip
    """A classifier trained on labelled images, in eval mode.

    model: trained; its weights are copied and stay. images: as `embed` takes them, such as (N, C, H, W) in [0, 1].
    labels: (N,) classes, numbers or texts, unless the images have them; those of -1 are left out. part: encoder,
    critic, or auto, which takes the encoder where there is one.
    pretrained: False starts the same network from random weights. steps: of Adam on 100 images each; lr falls to 0 on a line,
    from `lr` for the new layer and `body_lr` for the others (`lr` for all from random weights).
    InputError where the model has no such part, labels are no classes, or there are fewer than two of them.
    """
    given, names = images_of(images), None
    if labels is not None:
        told: dict[str, Any] = {"labels": labels_from_array(labels, len(given), "finetune")}
        if told["labels"].dtype.kind == "U":
            names = numbered(told, None, "finetune")
        given = Images(given.pixels, torch.from_numpy(told["labels"]).to(given.pixels.device), given.device)
    known = given.labelled()
    if known.labels is None or known.labels.is_floating_point() or len(known.labels.unique()) < 2:
        raise InputError("finetune needs images of two classes or more; give a class for each.")
    need_shape(model, known.shape, "images")
    part = pick_part(model, part)
    with seeded(mix(seed, 0xF7), model.device), torch.enable_grad():
        start = model if pretrained else registry.create(model.name, **model.args).to(model.device)
        net = FineTuned(start, part, 1 + int(known.labels.max())).train()
        own = [p for k, p in net.named_parameters() if not k.startswith("new.")]
        groups = [{"params": own, "lr": body_lr if pretrained else lr}, {"params": net.new.parameters(), "lr": lr}]
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / steps)
        for _ in range(steps):
            batch = known[torch.randint(len(known), (BATCH,))]
            assert batch.label is not None
            loss = F.cross_entropy(net(batch.image.to(model.device)), batch.label.long().to(model.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.classes = names
    return net.eval()


def error_of(net: FineTuned, images: Images) -> float:
    """Share of images whose likeliest class is wrong."""
    known = images.labelled()
    assert known.labels is not None
    return float((net.classify(known).argmax(1).cpu() != known.labels.cpu()).double().mean())


def gain(
    model: Game, data: Dataset, labels: int, *, draws: int = 5, split: str = "test", **options: Any
) -> dict[str, Any]:  # fmt: skip
    """What pre-training gains at so many labels: over `draws` choices of labels, the mean error on a split of a classifier that
    starts from the model and of its twin that starts from random weights, and the 95 % interval (Student's t over the draws) of
    both and of their difference. `options` are those of `finetune`."""
    if draws < 2:
        raise InputError("give 2 draws or more; one has no interval.")
    if data.num_classes < 2:
        raise InputError(f"{data.source} has no classes to learn; finetune needs images of two or more.")
    errors: dict[str, list[float]] = {"pretrained": [], "random": []}
    for seed in range(draws):
        few = hide_labels(data, labels, seed)
        for name, found in errors.items():
            net = finetune(model, few.train, pretrained=name == "pretrained", seed=seed, **options)
            found.append(error_of(net, data.split(split)))
    gained = [b - a for a, b in zip(errors["pretrained"], errors["random"], strict=True)]
    row: dict[str, Any] = {"labels": labels, "draws": draws, "part": pick_part(model, options.get("part", "auto"))}
    for name, values in (*errors.items(), ("gain", gained)):
        mean, low, high = mean_and_interval(torch.tensor(values, dtype=torch.float64)[:, None])
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return row | {"errors": errors}
