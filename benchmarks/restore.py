"""Restoration beside the spoilt images and the best linear estimator, on real images.

    python benchmarks/restore.py [CELL ...] [--data-dir DIR]   # train and measure what is missing
    python benchmarks/restore.py --linear [SET ...]            # the linear estimators alone, no training
    python benchmarks/restore.py --small                       # every cell with next to no training, kept nowhere
    python benchmarks/restore.py --table                       # Markdown

A cell is SET/OPERATOR, such as mnist/noise:0.5: `latentforge train restorer` for five minutes, ten on CIFAR-10 and X-rays,
then the first 2,000 test images spoilt with one seed and restored. PSNR is the mean over images of each one's, of output
clipped to [0, 1]; SSIM is that of an 11 x 11 Gaussian window of 1.5 pixels. Where pixels are missing, the mean squared error
of those alone is kept too. The linear estimator is the least-squares one (LMMSE), of the mean and covariance of the training
images, in float64: x' = m + C A' (A C A' + sigma^2 I)^-1 (y - A m); under clipped noise it is a regression on spoilt training
images. Kept in benchmarks/results/restore/SET/OPERATOR.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine
from torch import Tensor
from zoo import run_outside

import latentforge as lf
from latentforge.metrics.reconstruction import psnr, ssim
from latentforge.parts.operators import Clipped, Operator, parse, spoil

RESULTS = Path(__file__).parent / "results" / "restore"
MINUTES = {"mnist": 5, "fashion-mnist": 5, "cifar10": 10, "pneumoniamnist": 10}
TESTED, SEED = 2000, 0
ALL = {"noise:0.2": "denoise", "noise:0.5": "denoise", "clipped:0.5": "denoise", "blur:1": "deblur", "blur:2": "deblur",
       "downsample:2": "superres", "downsample:4": "superres", "hole:14": "inpaint", "lower:0.5": "inpaint",
       "pixels:0.75": "inpaint", "faded:0.5": "enhance"}  # fmt: skip
SOME = ("noise:0.2", "noise:0.5", "blur:1", "downsample:2", "downsample:4", "hole:14")
CELLS = [f"mnist/{o}" for o in ALL] + [f"{s}/{o}" for s in ("fashion-mnist", "cifar10", "pneumoniamnist") for o in SOME]
RIDGE = 1e-6  # of the pixels' variance, where an observation has no noise


def source_of(name: str, data_dir: str | None) -> str:
    """What --data is given for a set."""
    return str(Path(data_dir or ".") / name / f"{name}.npz") if name == "pneumoniamnist" else name


class Linear:
    """The linear estimator of least squared error, for images of one distribution."""

    def __init__(self, data: lf.Dataset):
        """Mean and covariance of all pixels of the images that are not for testing."""
        n, total, square = 0, 0.0, 0.0
        for part in (data.train, data.validation):
            for batch in part.batches(2000):
                x = batch.image.flatten(1).double()
                n, total, square = n + len(x), total + x.sum(0), square + x.T @ x
        self.mean = torch.as_tensor(total / n)
        self.covariance = torch.as_tensor(square / n) - self.mean.outer(self.mean)
        self.shape, self.data = data.image_shape, data

    def matrix(self, operator: Operator) -> tuple[Tensor, Tensor]:
        """A (M, D) and the constant of an operator that is affine, from what it makes of each pixel."""
        d = len(self.mean)
        zero = operator.apply(torch.zeros(1, *self.shape, dtype=torch.float64)).flatten()
        rows = [
            operator.apply(e.view(-1, *self.shape)).flatten(1) - zero
            for e in torch.eye(d, dtype=torch.float64).split(256)
        ]
        return torch.cat(rows).T, zero

    def __call__(self, operator: Operator, seen: Tensor) -> Tensor:
        """Observations to images (N, C, H, W), clipped."""
        if operator.masks:
            return self.fill(seen)
        if isinstance(operator, Clipped):
            return self.regression(operator, seen)
        a, constant = self.matrix(operator)
        ca = self.covariance @ a.T
        noise = operator.sigma**2 if operator.sigma else RIDGE * float(self.covariance.diagonal().mean())
        gain = torch.linalg.solve(a @ ca + noise * torch.eye(len(a), dtype=torch.float64), ca.T)
        found = self.mean + (seen.flatten(1).double() - a @ self.mean - constant) @ gain
        return found.view(-1, *self.shape).clamp(0, 1).float()

    def regression(self, operator: Operator, seen: Tensor) -> Tensor:
        """Where noise is cut off it is neither Gaussian nor free of the image: moments of training images that were spoilt."""
        n, mean, square, cross = 0, 0.0, 0.0, 0.0
        for i, batch in enumerate(b for part in (self.data.train, self.data.validation) for b in part.batches(2000)):
            x, y = batch.image.flatten(1).double(), spoil(batch.image, operator, SEED + 1 + i).flatten(1).double()
            n, mean, square, cross = n + len(x), mean + y.sum(0), square + y.T @ y, cross + y.T @ x
        m = torch.as_tensor(mean / n)
        gain = torch.linalg.solve(square / n - m.outer(m), cross / n - m.outer(self.mean))
        return (self.mean + (seen.flatten(1).double() - m) @ gain).view(-1, *self.shape).clamp(0, 1).float()

    def fill(self, seen: Tensor) -> Tensor:
        """Missing pixels from known ones; images that miss the same pixels together."""
        x, known = seen[:, :-1].flatten(1).double(), seen[:, -1:].expand_as(seen[:, :-1]).flatten(1) > 0
        out, masks = x.clone(), {}
        for i, k in enumerate(known):
            masks.setdefault(k.numpy().tobytes(), []).append(i)
        ridge = RIDGE * self.covariance.diagonal().mean()
        for rows in masks.values():
            k = known[rows[0]]
            inner = self.covariance[k][:, k] + ridge * torch.eye(int(k.sum()), dtype=torch.float64)
            gain = torch.linalg.solve(inner, self.covariance[k][:, ~k])
            at = torch.tensor(rows)[:, None]
            out[at, (~k).nonzero()[:, 0]] = self.mean[~k] + (x[rows][:, k] - self.mean[k]) @ gain
        return out.view(-1, *self.shape).clamp(0, 1).float()


def numbers(found: Tensor, original: Tensor, missing: Tensor | None) -> dict[str, float]:
    """Of images (N, C, H, W); `missing` (N, 1, H, W) is 1 where they were not seen."""
    out = {"psnr": float(psnr(found, original).double().mean()), "ssim": float(ssim(found, original).double().mean())}
    if missing is not None:
        error = (found - original).square().mean(1, keepdim=True).double() * missing
        out["inside"] = float(error.sum() / missing.sum())
    return out


def baselines(
    data: lf.Dataset, linear: Linear, operator: Operator, tested: int = TESTED
) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Numbers of the spoilt images and of the linear estimator, the originals and what was seen of them."""
    original = data.test[torch.arange(min(tested, len(data.test)))].image
    seen = spoil(original, operator, SEED)
    missing = 1 - seen[:, -1:] if operator.masks else None
    size = (original.shape[2], original.shape[3])
    naive = operator.naive(seen, size)
    out = {
        "spoilt": numbers(naive.clamp(0, 1), original, missing),
        "linear": numbers(linear(operator, seen), original, missing),
    }
    if missing is None:
        out["spoilt"]["psnr_unclipped"] = float(psnr(naive, original).double().mean())
    else:
        mean = linear.mean.float().view(1, *data.image_shape)
        out["mean"] = numbers(torch.where(missing > 0, mean, seen[:, :-1]), original, missing)
    return out, original, seen


def trained(command: list[str], data_dir: str | None) -> tuple[lf.Game, dict[str, Any]]:
    """The model of a `latentforge` command, and what is to be kept of its training."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        began = time.monotonic()
        run_outside([*command, "--seed", "0", "--quiet", "--out", run, *(["--data-dir", data_dir] if data_dir else [])])
        seconds = time.monotonic() - began
        model = lf.load(run)
        training = json.loads((Path(run) / "metrics.json").read_text())["training"]
    shown = ["NAME.npz" if w.endswith(".npz") else w for w in command]
    return model, {
        "command": "latentforge " + " ".join(shown) + " --seed 0", "seed": 0, "seconds": round(seconds, 1),
        "parameters": sum(p.numel() for p in model.parameters()), "training": training,
    }  # fmt: skip


def measure(cell: str, data: lf.Dataset, linear: Linear, data_dir: str | None, budget: list[str]) -> dict[str, Any]:
    name, text = cell.split("/")
    operator = parse(text)
    what = ["--task", ALL[text], "--operator", text, "--data", source_of(name, data_dir)]
    model, kept = trained(["train", "restorer", *what, *budget], data_dir)
    out, original, seen = baselines(data, linear, operator)
    began = time.monotonic()
    found = lf.restore(model, seen)
    taken = time.monotonic() - began
    missing = 1 - seen[:, -1:] if operator.masks else None
    return {
        **kept, "images": len(original), "seconds_to_restore": round(taken, 2), **out,
        "restorer": numbers(found, original, missing), "machine": machine(),
    }  # fmt: skip


def kept(cell: str) -> Path:
    name, text = cell.split("/")
    return RESULTS / name / f"{text.replace(':', '-')}.json"


def table() -> str:
    """Markdown, a row for each finished cell."""
    found = {c: json.loads(kept(c).read_text()) for c in CELLS if kept(c).exists()}
    if not found:
        return "Not measured yet: `make restore` does."
    lines = [
        "| images | degradation | PSNR degraded | linear | **restorer** | gain | SSIM degraded | linear | **restorer** "
        "| missing pixels, squared error: mean image | linear | **restorer** |",
        "| --- | --- |" + " ---: |" * 10,
    ]
    for cell, r in found.items():
        name, text = cell.split("/")
        row = [f"{r[k]['psnr']:.2f}" for k in ("spoilt", "linear")]
        row += [f"**{r['restorer']['psnr']:.2f}**", f"{r['restorer']['psnr'] - r['linear']['psnr']:+.2f}"]
        row += [f"{r[k]['ssim']:.3f}" for k in ("spoilt", "linear")] + [f"**{r['restorer']['ssim']:.3f}**"]
        inside = [f"{r[k]['inside']:.4f}" for k in ("mean", "linear")] if "mean" in r else ["", ""]
        row += [*inside, f"**{r['restorer']['inside']:.4f}**" if "mean" in r else ""]
        lines.append(f"| {name} | `{text}` | " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="such as mnist/noise:0.5 or mnist; all without any")
    parser.add_argument("--data-dir")
    parser.add_argument("--linear", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    chosen = [c for c in CELLS if not options.cells or c in options.cells or c.split("/")[0] in options.cells]
    current, data, linear = "", None, None
    for cell in chosen:
        if kept(cell).exists() and not (options.small or options.linear):
            continue
        name, text = cell.split("/")
        if name != current:
            if name == "pneumoniamnist" and not Path(source_of(name, options.data_dir)).exists():
                print(f"{cell} needs {name}/{name}.npz of MedMNIST v2 in --data-dir; left out", flush=True)
                continue
            current, data = name, lf.open_data(source_of(name, options.data_dir), data_dir=options.data_dir)
            linear = Linear(data)
        assert data is not None
        assert linear is not None
        if options.linear:
            print(cell, json.dumps(baselines(data, linear, parse(text))[0]), flush=True)
            continue
        budget = ["--examples", "640"] if options.small else ["--minutes", str(MINUTES[name])]
        result = measure(cell, data, linear, options.data_dir, budget)
        print(cell, f"{result['seconds']:.0f} s", {k: result[k] for k in ("spoilt", "linear", "restorer")}, flush=True)
        if not options.small:
            keep_result(kept(cell), result)


if __name__ == "__main__":
    main()
