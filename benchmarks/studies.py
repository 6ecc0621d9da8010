"""Small studies of single families, each one claim of the documentation with its numbers.

    python benchmarks/studies.py [STUDY ...] [--data-dir DIR]   # what is missing; finished studies are skipped
    python benchmarks/studies.py --table STUDY                  # its table in the documentation

    descriptors  cvae: descriptors asked for against descriptors measured on the samples (procedural shapes)
    estimate     wgan-gp: the critic's estimate against the samples' distance to the data over a run
    balance      began: gamma trades diversity for quality
    bounds       iwae: the bound on the same weights with more codes per image

Results: benchmarks/results/studies/STUDY.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import keep_result, machine
from scipy.stats import spearmanr

import latentforge as lf
from latentforge.data import open_data
from latentforge.data.synthetic import DESCRIPTORS
from latentforge.metrics.coverage import neighbourhoods
from latentforge.metrics.distance import frechet_distance
from latentforge.metrics.pca import PCA
from latentforge.metrics.shapes import measure_shapes
from latentforge.models.iwae import IWAE
from latentforge.parts.likelihood import importance_bound

RESULTS = Path(__file__).parent / "results" / "studies"
ASKED = 2000


def descriptors(data_dir: str | None) -> dict[str, Any]:
    """Train on shapes, ask for the descriptors of test images, measure the samples."""
    data = open_data("shapes")
    model = lf.fit("cvae", data, epochs=25, sampler="prior", quiet=True)
    asked = data.test.labels[:ASKED]
    measured = {
        "samples": measure_shapes(model.sample(ASKED, label=asked, seed=0).cpu()),
        "real images": measure_shapes(data.test[torch.arange(ASKED)].image),
        "samples asked for other descriptors": measure_shapes(model.sample(ASKED, label=asked.flip(0), seed=0).cpu()),
    }
    return {
        "command": "latentforge train cvae --data shapes --epochs 25 --sampler prior",
        "asked": ASKED, "descriptors": list(DESCRIPTORS),
        "correlation": {k: correlation(torch.as_tensor(v), asked) for k, v in measured.items()},
        "unmeasurable": {k: int((~torch.as_tensor(v).isfinite().all(1)).sum()) for k, v in measured.items()},
    }  # fmt: skip


def correlation(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    """Pearson's, per column, over the rows that could be measured."""
    rows = a.isfinite().all(1)
    return [
        round(float(torch.corrcoef(torch.stack([x, y]))[0, 1]), 4)
        for x, y in zip(a[rows].double().T, b[rows].double().T, strict=True)
    ]


def features(data_dir: str | None, n: int = 5000) -> tuple[Any, PCA, torch.Tensor]:
    data = open_data("mnist", data_dir=data_dir)
    pca = PCA(data.train[data.train.spread(20_000)].image, 50)
    return data, pca, pca(data.validation[data.validation.spread(n)].image)


def estimate(data_dir: str | None) -> dict[str, Any]:
    """Twelve stops of one run: the estimate's mean since the last stop, and the samples' Frechet distance."""
    data, pca, real = features(data_dir)
    options: dict[str, Any] = {"batch_size": 64, "seed": 0, "lr": 4e-4}
    step, rows = 64 * 6 * 60, []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for stop in range(1, 13):
            if stop == 1:
                model = lf.fit("wgan-gp", data, out=run, examples=step, quiet=True, **options)
            else:
                model = lf.resume(run, data, examples=stop * step, quiet=True)
            stats = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
            last = [s["estimate"] for s in stats if s.get("estimate") is not None and s["examples"] > (stop - 1) * step]
            fake = pca(model.sample(len(real), seed=0).cpu())
            rows.append(
                {"examples": stop * step, "estimate": sum(last) / len(last), "frechet": frechet_distance(real, fake)}
            )
            print(rows[-1], flush=True)
    tail = rows[1:]  # the critic has to learn to estimate first
    return {
        "command": "latentforge train wgan-gp --data mnist --lr 4e-4", "stops": rows, "images": len(real),
        "spearman": float(spearmanr([r["estimate"] for r in tail], [r["frechet"] for r in tail]).statistic),
        "pca": 50,
    }  # fmt: skip


def balance(data_dir: str | None) -> dict[str, Any]:
    """Three values of gamma, the same budget."""
    data, pca, real = features(data_dir)
    rows = []
    for gamma in (0.3, 0.6, 0.9):
        model = lf.fit("began", data, examples=1_000_000, seed=0, quiet=True, model_options={"gamma": gamma})
        fake = pca(model.sample(len(real), seed=0).cpu())
        spread = float(fake.var(0).sum() / real.var(0).sum())
        found = {**neighbourhoods(real, fake), "frechet": frechet_distance(real, fake), "variance_ratio": spread}
        rows.append({"gamma": gamma, **{k: float(v) for k, v in found.items()}})
        print(rows[-1], flush=True)
    return {"command": "latentforge train began --data mnist --examples 1000000 --gamma GAMMA", "rows": rows,
            "images": len(real), "pca": 50}  # fmt: skip


def bounds(data_dir: str | None) -> dict[str, Any]:
    """A trained VAE's weights under the bound of K codes."""
    data = open_data("mnist", data_dir=data_dir)
    shape = {"net": "mlp", "hidden": (400,)}
    vae = lf.fit("vae", data, epochs=5, seed=0, quiet=True, model_options=shape)
    iwae = IWAE(data.image_shape, **shape).eval()
    iwae.load_state_dict(vae.state_dict())
    rows = []
    torch.manual_seed(0)
    batches = [data.test[i].image for i in torch.arange(2000).split(200)]
    with torch.no_grad():
        elbo = [vae.evaluate(data.test[i])["loss_nats"].mean() for i in torch.arange(2000).split(200)]
        for k in (1, 5, 50, 500):
            values = [importance_bound(iwae, x, torch.randn(len(x), k, iwae.latent_dim)).mean() for x in batches]
            rows.append({"codes": k, "nats": float(torch.stack(values).double().mean())})
            print(rows[-1], flush=True)
    return {"command": "latentforge train vae --data mnist --net mlp --hidden 400 --epochs 5", "rows": rows,
            "elbo_nats": float(torch.stack(elbo).double().mean()), "images": 2000}  # fmt: skip


STUDIES: dict[str, Callable[[str | None], dict[str, Any]]] = {
    "descriptors": descriptors, "estimate": estimate, "balance": balance, "bounds": bounds,
}  # fmt: skip


PAGES = {"descriptors": "cvae", "estimate": "wgan-gp", "balance": "began", "bounds": "iwae"}  # where each is shown


def table(study: str) -> str:
    """Markdown for the family's page."""
    file = RESULTS / f"{study}.json"
    if not file.exists():
        return "Not measured yet."
    r = json.loads(file.read_text())
    if study == "descriptors":
        lines = [
            "| correlation with what was asked | " + " | ".join(r["descriptors"]) + " |",
            "| --- |" + " ---: |" * 4,
        ]
        lines += [f"| {k} | " + " | ".join(f"{v:.3f}" for v in row) + " |" for k, row in r["correlation"].items()]
    elif study == "estimate":
        lines = ["| images seen | critic's estimate | frechet (PCA-50) |", "| ---: | ---: | ---: |"]
        lines += [f"| {s['examples']:,} | {s['estimate']:.3f} | {s['frechet']:.2f} |" for s in r["stops"]]
        lines += ["", f"Rank correlation (Spearman) from the second row on: {r['spearman']:.2f}."]
    elif study == "balance":
        names = ["gamma", "density", "coverage", "variance_ratio", "frechet"]
        lines = ["| " + " | ".join(names) + " |", "|" + " ---: |" * len(names)]
        lines += ["| " + " | ".join(f"{row[n]:.3g}" for n in names) + " |" for row in r["rows"]]
    else:
        lines = ["| codes per image | nats |", "| ---: | ---: |", f"| ELBO | {r['elbo_nats']:.2f} |"]
        lines += [f"| {row['codes']} | {row['nats']:.2f} |" for row in r["rows"]]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []])
    parser.add_argument("--data-dir")
    parser.add_argument("--table", choices=list(STUDIES))
    options = parser.parse_args()
    if options.table:
        print(table(options.table))
    else:
        for name in options.studies or STUDIES:
            file = RESULTS / f"{name}.json"
            if not file.exists():
                result = {"study": name, "seed": 0, **STUDIES[name](options.data_dir), "machine": machine()}
                keep_result(file, result)
                print(name, table(name), sep="\n", flush=True)
