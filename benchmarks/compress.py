"""Error against bits: images as codes of a model beside JPEG, WebP and principal components.

    python benchmarks/compress.py [CELL ...] [--data-dir DIR]   # what is missing; finished cells are skipped
    python benchmarks/compress.py --table [SET]                 # Markdown
    python benchmarks/compress.py --picture                     # docs/images/compress.png

A cell is SET/CODEC: all test images in real files at a row of settings, the bytes of the files counted, headers included.
`jpeg` and `webp` write a file for each image. `jpeg-sheet` and `webp-sheet` lay all of them out on one sheet, as they are and
padded to whole blocks of 16 pixels; `pca` puts 512 principal components of the training images through the same quantiser
and coder as the models' codes. Neither networks nor components are counted: sender and receiver have them. Results:
benchmarks/results/compress/SET-CODEC.json.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shlex
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import keep_result, machine
from PIL import Image
from zoo import run_outside

import latentforge as lf
from latentforge.data import Dataset, Images
from latentforge.metrics.pca import PCA
from latentforge.metrics.reconstruction import decibels
from latentforge.tasks.coding import Packed, pack, unpack
from latentforge.tasks.compress import squared_error
from latentforge.tasks.quantise import dequantise, quantise

RESULTS = Path(__file__).parent / "results" / "compress"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "compress.png"
TRAIN = "--schedule cosine --minutes 5 --seed 0"
MODELS = {
    "mnist": {f"autoencoder-{k}": f"autoencoder --latent-dim {k} {TRAIN}" for k in (8, 16, 32, 64)}
    | {"vae-32": f"vae --latent-dim 32 {TRAIN}"},
    "cifar10": {f"autoencoder-{k}": f"autoencoder --latent-dim {k} {TRAIN}" for k in (64, 128, 256)}
    | {"vae-128": f"vae --latent-dim 128 --likelihood learned-gaussian {TRAIN}"},
}
CODECS = ("jpeg", "webp", "jpeg-sheet", "webp-sheet", "pca")
RATES = {"mnist": (0.05, 0.1, 0.2, 0.4, 0.8), "cifar10": (0.1, 0.2, 0.4, 0.8, 1.6)}  # bits per pixel
STEPS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3)
QUALITIES = (1, 3, 6, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)
COUNTS = (1, 10, 100, 1000, 10_000)  # images in a file
COMPONENTS, FIT = 512, 20_000

Point = dict[str, Any]  # setting, bytes, bits_per_pixel, mse


def point(setting: Any, size: int, images: np.ndarray, rebuilt: np.ndarray) -> Point:
    """What a file of `size` bytes with these images uint8 (N, H, W, C) in it says."""
    n, h, w, _ = images.shape
    error = float(np.square((images.astype(np.float64) - rebuilt) / 255).mean())
    return {"setting": setting, "bytes": size, "bits_per_pixel": 8 * size / (n * h * w), "mse": error}


def saved(array: np.ndarray, **how: Any) -> tuple[int, np.ndarray]:
    """The bytes of one picture (H, W, C) in a file, and what the file shows."""
    grey = array.shape[2] == 1
    file = io.BytesIO()
    Image.fromarray(array[:, :, 0] if grey else array).save(file, **how)
    with Image.open(file) as picture:
        rebuilt = np.asarray(picture.convert("L" if grey else "RGB"))
    return len(file.getvalue()), rebuilt.reshape(array.shape)


def singly(images: np.ndarray, name: str) -> list[Point]:
    """A file for each image."""
    out = []
    for quality in QUALITIES:
        files = [saved(x, **how(name, quality)) for x in images]
        out.append(point(quality, sum(size for size, _ in files), images, np.stack([rebuilt for _, rebuilt in files])))
    return out


def how(name: str, quality: int, **more: Any) -> dict[str, Any]:
    extra = {"optimize": True} if name == "jpeg" else {"method": 4}
    return {"format": name, "quality": quality, **extra, **more}


def sheets(images: np.ndarray, name: str) -> list[Point]:
    """All images in one file, at every quality; JPEG with colours at half and at full resolution."""
    out = []
    kinds = [{"subsampling": s} for s in (0, 2)] if name == "jpeg" and images.shape[3] == 3 else [{}]
    for block in (1, 16):
        laid, back = sheet(images, block)
        for kind in kinds:
            for quality in QUALITIES:
                size, rebuilt = saved(laid, **how(name, quality, **kind))
                out.append(point({"quality": quality, "block": block, **kind}, size, images, back(rebuilt)))
    size, rebuilt = saved(sheet(images, 1)[0], format="webp", lossless=True, method=6)
    assert name != "webp" or np.array_equal(sheet(images, 1)[1](rebuilt), images)
    return out + [point("lossless", size, images, images)] * (name == "webp")


def sheet(images: np.ndarray, block: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Images (N, H, W, C) side by side, each padded to whole blocks by its edges, and how to take them apart again."""
    n, h, w, c = images.shape
    down, right = -h % block, -w % block
    padded = np.pad(images, ((0, 0), (0, down), (0, right), (0, 0)), mode="edge")
    across = math.ceil(math.sqrt(n))
    rows = math.ceil(n / across)
    full = np.concatenate([padded, np.zeros((rows * across - n, *padded.shape[1:]), np.uint8)])
    grid = full.reshape(rows, across, h + down, w + right, c).swapaxes(1, 2)
    shape = grid.shape

    def back(array: np.ndarray) -> np.ndarray:
        return array.reshape(shape).swapaxes(1, 2).reshape(-1, h + down, w + right, c)[:n, :h, :w]

    return grid.reshape(rows * (h + down), across * (w + right), c), back


def components(data: Dataset, images: Images) -> list[Point]:
    """Principal components of the training images, in the models' own kind of file."""
    pca = PCA(data.train[data.train.spread(FIT)].image.cpu(), COMPONENTS)
    scores = pca(torch.cat([b.image for b in images.batches()])).numpy()
    sensitive = np.full(scores.shape[1], math.prod(data.image_shape) ** -0.5)  # an orthonormal decoder's
    out = []
    for step in STEPS:
        file = pack(Packed("pca", bytes(8), data.image_shape, **quantise(scores, sensitive, step)))
        codes = torch.from_numpy(dequantise(unpack(file, "pca")))
        rebuilt = pca.images(codes, data.image_shape)
        out.append(row(step, len(file), rebuilt, images))
    return out


def row(setting: Any, size: int, rebuilt: torch.Tensor, images: Images) -> Point:
    _, h, w = images.shape
    return {"setting": setting, "bytes": size, "bits_per_pixel": 8 * size / (len(images) * h * w),
            "mse": squared_error(rebuilt, images)}  # fmt: skip


def codes(model: lf.Game, images: Images, folder: str) -> dict[str, Any]:
    """The curve of a model, its error without rounding, and bits per pixel in files of fewer images."""
    file = Path(folder) / "images.lfz"
    points = []
    for step in STEPS:
        written = lf.compress(model, images, file, step)
        points.append(row(step, written.bytes, lf.decompress(model, file), images))
    rebuilt = torch.cat([model.reconstruct(b.image, model.labels_of(b)).cpu() for b in images.batches()])
    counts = {k: lf.compress(model, some(images, k), file).bits_per_pixel for k in COUNTS if k <= len(images)}
    return {"points": points, "unrounded_mse": squared_error(rebuilt, images), "counts": counts}


def some(images: Images, k: int) -> Images:
    pick = images.spread(k)
    return Images(images.pixels[pick], None if images.labels is None else images.labels[pick])


def measure(
    name: str, codec: str, data_dir: str | None, data: Dataset | None = None, budget: str | None = None, results: Path = RESULTS
) -> dict[str, Any]:  # fmt: skip
    """One cell. `budget` replaces the training's, for a look at whether everything works."""
    data = lf.open_data(name, data_dir=data_dir) if data is None else data
    images, began, command = data.test, time.monotonic(), None
    pixels = np.rint(torch.cat([b.image for b in images.batches()]).mul(255).permute(0, 2, 3, 1).numpy()).astype(
        np.uint8
    )
    if codec in MODELS[name]:
        with tempfile.TemporaryDirectory() as folder:
            command = f"train {MODELS[name][codec]} --data {name}" + (f" {budget}" if budget else "")
            where = ["--data-dir", data_dir] if data_dir else []
            run = str(Path(folder) / "run")
            words = shlex.split(command.replace("--minutes 5", "") if budget else command)
            run_outside([*words, "--quiet", "--out", run, *where])
            found = codes(lf.load(run), images, folder)
    elif codec == "pca":
        found = {"points": components(data, images)}
    else:
        kind, _, laid = codec.partition("-")
        found = {"points": sheets(pixels, kind) if laid else singly(pixels, kind)}
    result = {
        "cell": f"{name}/{codec}", "command": f"python benchmarks/compress.py {name}/{codec}",
        "training": command and f"latentforge {command}", "seed": 0, "images": len(images),
        "seconds": round(time.monotonic() - began, 1), **found, "machine": machine(),
    }  # fmt: skip
    keep_result(results / f"{name}-{codec}.json", result)
    shown = [(round(p["bits_per_pixel"], 3), round(p["mse"], 5)) for p in found["points"]]
    print(name, codec, f"{result['seconds']:.0f} s", shown, flush=True)
    return result


# -- what is said of it ------------------------------------------------------------------------------------------------
def kept(name: str, results: Path = RESULTS) -> dict[str, dict[str, Any]]:
    files = {codec: results / f"{name}-{codec}.json" for codec in (*CODECS, *MODELS[name])}
    return {codec: json.loads(f.read_text()) for codec, f in files.items() if f.exists()}


def frontier(points: list[Point]) -> list[tuple[float, float]]:
    """(bits per pixel, decibels) of the settings that no other one beats in both."""
    best, out = -math.inf, []
    for p in sorted((p for p in points if p["mse"]), key=lambda p: (p["bits_per_pixel"], p["mse"])):
        if decibels(p["mse"]) > best:
            best = decibels(p["mse"])
            out.append((p["bits_per_pixel"], best))
    return out


def at(points: list[Point], rate: float) -> float | None:
    """Decibels at a rate, between two settings by a straight line; None where every file is larger."""
    bits, level = zip(*frontier(points), strict=True)
    return float(np.interp(rate, bits, level)) if rate >= bits[0] else None


def table(name: str, results: Path = RESULTS) -> str:
    """PSNR at the rates, a row for each codec."""
    cells = kept(name, results)
    if not cells:
        return f"Not measured yet: `python benchmarks/compress.py` does ({name})."
    lines = ["| PSNR (dB) at bits per pixel | " + " | ".join(f"{r:g}" for r in RATES[name]) + " | at most |",
             "| --- |" + " ---: |" * (len(RATES[name]) + 1)]  # fmt: skip
    titles = {"jpeg": "JPEG, a file per image", "webp": "WebP, a file per image", "jpeg-sheet": "JPEG, one sheet",
              "webp-sheet": "WebP, one sheet", "pca": "PCA, same quantiser and coder"}  # fmt: skip
    for codec, r in cells.items():
        title = titles.get(codec, f"`{MODELS[name].get(codec, '').split(' --schedule')[0]}`")
        values = [at(r["points"], rate) for rate in RATES[name]]
        most = decibels(r["unrounded_mse"]) if "unrounded_mse" in r else None
        cells_ = [f"{v:.1f}" if v is not None else "" for v in (*values, most)]
        lines.append(f"| {title} | " + " | ".join(cells_) + " |")
    lossless = [p for r in cells.values() for p in r["points"] if p["setting"] == "lossless"]
    if lossless:
        lines += ["", f"Without loss: {lossless[0]['bits_per_pixel']:.2f} bits per pixel (WebP, one sheet)."]
    counts = {codec: r["counts"] for codec, r in cells.items() if "counts" in r}
    if counts:
        heads = list(next(iter(counts.values())))
        title = "| bits per pixel at the default step, images in the file | "
        lines += ["", title + " | ".join(f"{int(k):,}" for k in heads) + " |", "| --- |" + " ---: |" * len(heads)]
        lines += [f"| `{codec}` | " + " | ".join(f"{c[k]:.3f}" for k in heads) + " |" for codec, c in counts.items()]
    return "\n".join(lines)


def picture() -> None:
    """The curves of both sets."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(MODELS)), MODELS, strict=True):
        for codec, r in kept(name).items():
            bits, level = zip(*frontier(r["points"]), strict=True)
            style = "--" if codec in CODECS else "-"
            ax.plot(bits, level, style, marker=".", ms=4, lw=1.2, label=codec)
        ax.set(xscale="log", xlabel="bits per pixel, of real files", ylabel="PSNR (dB)", title=name)
        ax.legend(fontsize=7)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--data-dir")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--picture", action="store_true")
    options = parser.parse_args()
    if options.table:
        print("\n\n".join(table(name) for name in options.cells or MODELS))
    elif options.picture:
        picture()
    else:
        for cell in options.cells or [f"{name}/{codec}" for name in MODELS for codec in (*CODECS, *MODELS[name])]:
            name, _, codec = cell.partition("/")
            if not (RESULTS / f"{name}-{codec}.json").exists():
                measure(name, codec, options.data_dir)
