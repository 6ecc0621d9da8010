"""Whether an attribute vector changes the attribute, and what else it changes.

    python benchmarks/edit.py [CELL ...] [--data-dir DIR] [--minutes M]   # train what is missing
    python benchmarks/edit.py --table                                     # Markdown

Three tasks. thickness: thin MNIST digits are to become thick; thickness is measured on the pixels, thin and thick are the
lowest and the highest third of the training images. classes: a digit is to become another one, ten ordered pairs. x-rays:
normal chest images are to look like pneumonia, and the reverse.

Whether an edited image has the attribute says a classifier that no model has seen (for classes the package's classifier of
digits). What is kept: of thickness, the digit, by that classifier; of classes, the correlation of thickness and slant
with those of the original; of x-rays, and of all, the share of edited images whose nearest original, in 50 principal
components, is their own. `frechet` is the distance in the judge's features between the edited images and real test images that
have the attribute.

`--detail` puts back what the reconstruction of an image misses of it. The rival is the same arithmetic without a model: on
pixels, and on 50 principal components. The strength of each method is chosen on validation images, the least at which 90 %
are changed (else the one that changes most); test images are edited once, at that strength. Results:
benchmarks/results/edit/CELL.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine, where
from torch import Tensor

import latentforge as lf
from latentforge.data import Dataset, Images
from latentforge.metrics.distance import frechet_distance
from latentforge.metrics.features import extractor
from latentforge.metrics.intervals import around_mean
from latentforge.metrics.network import train_classifier
from latentforge.metrics.pca import PCA

RESULTS = Path(__file__).parent / "results" / "edit"
MODELS = {
    "vae": "vae",
    "vae-gan": "vae-gan",
    "larsen-vae-gan": "larsen-vae-gan",
}
FILES = {"mnist": "mnist", "x-rays": "pneumoniamnist/pneumoniamnist.npz"}  # below --data-dir
SETS = {"mnist": ("thickness", "classes"), "x-rays": ("x-rays",)}
PLAIN = ("pixels", "pca50")  # no model
CELLS = [f"{data}/{how}" for data in SETS for how in (*MODELS, *PLAIN)]
MINUTES = 5.0
STRENGTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
ENOUGH = 0.9
PAIRS = ((3, 8), (8, 3), (4, 9), (9, 4), (1, 7), (7, 1), (3, 5), (5, 3), (0, 6), (6, 0))
MOST = 500  # images edited per direction
JUDGE = 100_000  # images a judge draws in training
Change = Callable[[Images, Images, Images, Tensor], Tensor]  # having, lacking, images, strengths -> (N, S, C, H, W)


@dataclass
class Edit:
    """One direction of one task: images with and without the attribute in each split, and who judges."""

    train: tuple[Images, Images]  # having, lacking
    validation: tuple[Images, Images]
    test: tuple[Images, Images]
    judge: Callable[[Tensor], Tensor]  # images -> (N,) float64, 1 where they have the attribute
    features: Callable[[Tensor], Tensor]
    kept: Callable[[Tensor, Images], float]  # edited images, their originals


def measure(cell: str, data_dir: Path, minutes: float, results: Path = RESULTS) -> dict[str, Any]:
    """Train where there is something to train, edit, judge, keep the numbers."""
    name, how = cell.split("/")
    data = open_set(name, data_dir)
    began = time.monotonic()
    options: dict[str, Any] = {"minutes": minutes, "seed": 0}
    if how in PLAIN:
        ways = {how: plain(how, data)}
    else:
        model = lf.fit(MODELS[how], data, quiet=True, **options)
        ways = {how: by_model(model), f"{how} --detail": by_model(model, detail=True)}
    seconds = time.monotonic() - began
    tasks: dict[str, dict[str, Any]] = {}
    for task in SETS[name]:
        edits = TASKS[task](data)
        tasks[task] = {way: summary([judged(e, change) for e in edits]) for way, change in ways.items()}
    result = {
        "cell": cell, "command": f"python benchmarks/edit.py {cell}", "model": MODELS.get(how, how),
        "data": FILES[name], **({} if how in PLAIN else options), "seconds": round(seconds, 1),
        "tasks": tasks, "machine": machine(),
    }  # fmt: skip
    file = results / f"{cell}.json"
    keep_result(file, result)
    for task, found in tasks.items():
        for way, r in found.items():
            print(task, way, f"{seconds:.0f} s", {k: round(r[k], 3) for k in ("changed", "kept", "own")}, flush=True)
    return result


def open_set(name: str, data_dir: Path) -> Dataset:
    if name == "mnist":
        return lf.open_data("mnist", data_dir=data_dir)
    return lf.open_data(data_dir / FILES[name])


# -- ways to edit ------------------------------------------------------------------------------------------------------
def by_model(model: Any, detail: bool = False) -> Change:
    def change(having: Images, lacking: Images, images: Images, strengths: Tensor) -> Tensor:
        return lf.edit(model, images, lf.attribute_vector(model, having, lacking), strengths, detail)

    return change


def plain(how: str, data: Dataset) -> Change:
    """The difference of the mean images, added to the pixels, or to their first 50 principal components."""
    pca = PCA(whole(data.train.select(data.train.spread(20_000))), 50) if how == "pca50" else None

    def change(having: Images, lacking: Images, images: Images, strengths: Tensor) -> Tensor:
        x = whole(images)
        vector = mean_image(having) - mean_image(lacking)
        moved = x[:, None] + strengths[None, :, None, None, None] * vector
        if pca is None:
            return moved.clamp(0, 1)
        return pca.reconstruct(moved.flatten(0, 1)).unflatten(0, moved.shape[:2])

    return change


def whole(images: Images) -> Tensor:
    return images[torch.arange(len(images))].image


def mean_image(images: Images) -> Tensor:
    return sum(b.image.double().sum(0) for b in images.batches()).float() / len(images)  # type: ignore[union-attr]


# -- judging -----------------------------------------------------------------------------------------------------------
def judged(e: Edit, change: Change) -> dict[str, Any]:
    """The strength is chosen on validation; test images are edited at it alone, and rebuilt unedited."""
    having, lacking = e.train
    strengths = torch.tensor(STRENGTHS)
    tried = change(having, lacking, some(e.validation[1]), strengths)
    shares = [float(e.judge(tried[:, i]).mean()) for i in range(len(STRENGTHS))]
    enough = [s for s, share in zip(STRENGTHS, shares, strict=True) if share >= ENOUGH]
    strength = enough[0] if enough else STRENGTHS[max(range(len(shares)), key=shares.__getitem__)]
    images, real = some(e.test[1]), some(e.test[0])
    unedited, edited = change(having, lacking, images, torch.tensor([0.0, strength])).unbind(1)
    return {
        "strength": strength, "validation": dict(zip(map(str, STRENGTHS), shares, strict=True)),
        "right": e.judge(edited), "unedited": float(e.judge(unedited).mean()), "real": float(e.judge(whole(real)).mean()),
        "kept": e.kept(edited, images), "own": identity(edited, whole(images)),
        "own_unedited": identity(unedited, whole(images)),
        "frechet": frechet_distance(e.features(whole(real)), e.features(edited)),
        "floor": frechet_distance(e.features(whole(real)), e.features(whole(some(having)))),
    }  # fmt: skip


def some(images: Images) -> Images:
    return images.select(images.spread(MOST))


def identity(edited: Tensor, originals: Tensor) -> float:
    """The share of edited images whose nearest original is their own."""
    pca = PCA(originals, 50)
    nearest = torch.cdist(pca(edited), pca(originals)).argmin(1)
    return float((nearest == torch.arange(len(edited))).double().mean())


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the directions of a task; `changed` over all images with its interval."""
    right = torch.cat([f.pop("right") for f in found])
    share = around_mean(right)
    out: dict[str, Any] = {"changed": share.pop("value"), **share, "images": len(right)}
    for name in ("strength", "unedited", "real", "kept", "own", "own_unedited", "frechet", "floor"):
        out[name] = sum(f[name] for f in found) / len(found)
    return out | {"directions": found}


# -- tasks -------------------------------------------------------------------------------------------------------------
def thickness_task(data: Dataset) -> list[Edit]:
    train = thickness(data.train)
    low, high = train.quantile(torch.tensor([1 / 3, 2 / 3], dtype=train.dtype))

    def halves(images: Images) -> tuple[Images, Images]:
        t = thickness(images)
        return images.select(t > high), images.select(t < low)

    sets = halves(data.train)
    net = judge_of(*sets)
    classify = extractor("digits", data).classify
    assert classify is not None

    def same_digit(edited: Tensor, originals: Images) -> float:
        return float((classify(edited).argmax(1) == originals.labels).double().mean())

    return [Edit(sets, halves(data.validation), halves(data.test), lambda x: has(net.over(x, head=True), 1),
                 net.over, same_digit)]  # fmt: skip


def classes_task(data: Dataset) -> list[Edit]:
    digits = extractor("digits", data)
    assert digits.classify is not None

    def edit(a: int, b: int) -> Edit:
        splits = [(s.select(s.labels == b), s.select(s.labels == a)) for s in (data.train, data.validation, data.test)]
        return Edit(*splits, lambda x: has(digits.classify(x), b), digits, style)

    return [edit(a, b) for a, b in PAIRS]


def xray_task(data: Dataset) -> list[Edit]:
    splits = [(s.select(s.labels == 1), s.select(s.labels == 0)) for s in (data.train, data.validation, data.test)]
    net = judge_of(*splits[0])

    def own(edited: Tensor, originals: Images) -> float:
        return identity(edited, whole(originals))

    def edit(k: int) -> Edit:
        sides = [s if k else s[::-1] for s in splits]
        return Edit(*sides, lambda x: has(net.over(x, head=True), k), net.over, own)

    return [edit(1), edit(0)]


TASKS = {"thickness": thickness_task, "classes": classes_task, "x-rays": xray_task}


def judge_of(having: Images, lacking: Images) -> Any:
    """A classifier of its own, trained on the real images alone: class 1 has the attribute."""
    labels = torch.cat([torch.ones(len(having)), torch.zeros(len(lacking))]).long()
    return train_classifier(Images(torch.cat([having.pixels, lacking.pixels]), labels), 2, JUDGE, seed=1)


def has(logits: Tensor, k: int) -> Tensor:
    return (logits.argmax(1) == k).double()


def thickness(images: Images) -> Tensor:
    """(N,) pixels: twice the ink over the length of its outline, which is the width of a long stroke."""
    return torch.cat([stroke(b.image) for b in images.batches()])


def stroke(x: Tensor) -> Tensor:
    x = torch.nn.functional.pad(x[:, 0].double(), (1, 1, 1, 1))
    outline = (x.diff(dim=1).abs().sum((1, 2)) + x.diff(dim=2).abs().sum((1, 2))) / 1.27  # a slanted edge counts 4 / pi
    return 2 * x.sum((1, 2)) / outline.clamp(min=1e-6)


def slant(x: Tensor) -> Tensor:
    """(N,) how far the ink leans: its covariance of row and column over its variance of rows."""
    ink = x[:, 0].double()
    ink = ink / ink.sum((1, 2), keepdim=True).clamp(min=1e-6)
    h, w = torch.arange(x.shape[2]).double(), torch.arange(x.shape[3]).double()
    row, column = (ink.sum(2) * h).sum(1), (ink.sum(1) * w).sum(1)
    dh, dw = h - row[:, None], w - column[:, None]
    return (ink * dh[:, :, None] * dw[:, None]).sum((1, 2)) / (ink.sum(2) * dh**2).sum(1).clamp(min=1e-6)


def style(edited: Tensor, originals: Images) -> float:
    """The mean correlation of thickness and slant with those of the originals."""
    x = whole(originals)
    pairs = [(f(edited), f(x)) for f in (stroke, slant)]
    return sum(float(torch.corrcoef(torch.stack(p))[0, 1].nan_to_num()) for p in pairs) / len(pairs)


# -- table -------------------------------------------------------------------------------------------------------------
KEPT = {"thickness": "same digit", "classes": "thickness, slant", "x-rays": "own image nearest"}


def table() -> str:
    """Markdown, a block of rows per task."""
    kept = {c: json.loads((RESULTS / f"{c}.json").read_text()) for c in CELLS if (RESULTS / f"{c}.json").exists()}
    if not kept:
        return "Not measured yet: `python benchmarks/edit.py` does."
    lines = [
        "| task | edited by | strength | has the attribute | kept | own image nearest (unedited) | frechet |",
        "| --- | --- |" + " ---: |" * 5,
    ]
    for task in (t for tasks in SETS.values() for t in tasks):
        rows = [pair for r in kept.values() for pair in r["tasks"].get(task, {}).items()]
        for way, r in rows:
            measure = f"{r['kept']:.2f}" if task == "classes" else f"{r['kept']:.1%}"
            lines.append(
                f"| {task} | `{way}` | {r['strength']:.2g} | {r['changed']:.1%} ({r['low']:.1%} to {r['high']:.1%}) | "
                f"{measure} ({KEPT[task]}) | {r['own']:.1%} ({r['own_unedited']:.1%}) | {r['frechet']:.1f} |"
            )
        if rows:
            r = rows[0][1]
            lines.append(f"| {task} | real images that have it | | {r['real']:.1%} | | | {r['floor']:.1f} |")
    return "\n".join(lines) + where({cell: [r["machine"]] for cell, r in kept.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help=f"some of {', '.join(CELLS)}; all without any")
    parser.add_argument("--data-dir", type=Path, help="folder that holds mnist/ and pneumoniamnist/")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="budget of each training")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep the numbers")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
    else:
        for cell in options.cells or CELLS:
            if not (options.results / f"{cell}.json").exists():
                measure(cell, options.data_dir or Path(), options.minutes, options.results)
