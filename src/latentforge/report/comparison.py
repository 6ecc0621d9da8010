"""The page of a comparison: one HTML file with every model's pictures, numbers and curves beside the others', and what
they say in plain words."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from latentforge import registry
from latentforge._version import __version__
from latentforge.data.dataset import Dataset
from latentforge.data.modes import is_points
from latentforge.display import duration
from latentforge.files import write_text
from latentforge.game import Game
from latentforge.metrics.subject import Subject, some
from latentforge.report.grid import grid
from latentforge.report.page import ceiling, even_game, split_findings, template
from latentforge.report.page import curves as own_curves
from latentforge.report.pictures import latent_space, samples, sheet
from latentforge.report.plots import Look, inline, legend, plain_axes, plot
from latentforge.report.points import SHOWN as SHOWN_POINTS
from latentforge.report.settings import commands, machine
from latentforge.report.verdict import verdict
from latentforge.report.words import origin, show, words
from latentforge.saving import load
from latentforge.tasks.compare import Entry, across, ends, training
from latentforge.tasks.invert import invert

SHOWN = 10  # images per row of reconstructions
SEARCH = 200  # steps of latent optimisation
TIMED = 1000  # samples drawn to time them


def write_comparison(
    entries: list[Entry], data: Dataset, out: Path, split: str, features: tuple[str, ...] = ("auto",)
) -> Path:  # fmt: skip
    """Write OUT/comparison.html from finished, evaluated runs."""
    models = {e.name: load(e.run.path) for e in entries}
    points = is_points(data.image_shape)
    subject = Subject(next(iter(models.values())), data, split, features=features)
    batch = some(subject.held, SHOWN)
    measures = table(entries)
    facts = {e.name: costs(e, models[e.name]) for e in entries}
    rebuilt = [] if points else [reconstructions(e.name, models[e.name], batch) for e in entries]
    config = entries[0].run.config
    page = template("comparison.html").render(
        names=[e.name for e in entries],
        entries=[described(e) for e in entries],
        images=config.get("images") or {},
        origin=origin(config),
        shape="×".join(map(str, data.image_shape)),
        split=split,
        seeds=max(len(e.runs) for e in entries),
        budget=each({e.name: budget(e.run.config["train"]) for e in entries}) + " for each",
        machine=each({e.name: where(e.run) for e in entries}),
        verdict=verdict(entries, facts, rebuilt),
        measures=measures,
        notes=notes(entries),
        costs=cost_table(facts),
        points=points,
        real=sheet(some(subject.held, SHOWN_POINTS if points else 64).image, data),
        samples=[{"name": n, **samples(m, data)} for n, m in models.items()],
        originals=None if points else inline(grid(batch.image, SHOWN)),
        reconstructions=rebuilt,
        **latent_space(models, subject),
        findings=[{"name": e.name, **f} for e in entries for f in split_findings(e.run)[1]],
        curves=curves(entries),
        own_curves=[
            {"name": e.name, "groups": own_curves(split_findings(e.run)[0], even_game(e.run.config["model"]))}
            for e in entries
        ],
        version=__version__,
    )
    path = out / "comparison.html"
    write_text(path, page)
    return path


# -- what is compared --------------------------------------------------------------------------------------------------
def described(e: Entry) -> dict[str, Any]:
    known = registry.MODELS.get(e.run.config["model"]["name"])
    used = [c for _, c in commands(e.run)]  # the last is for Python, where all is possible
    return {
        "name": e.name, "command": e.command, "summary": known.summary if known else "",
        "paper": known.paper if known else "", "page": str(e.run.path),
        "use": next((c for c in used if c.startswith("latentforge") and " resume " not in c), used[-1]),
    }  # fmt: skip


def each(told: dict[str, str]) -> str:
    """What is the same for all models, or what each of them had."""
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{name}: {text}" for name, text in told.items())


def where(run: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in machine(run).items() if v is not None)


def budget(train: dict[str, Any]) -> str:
    if train.get("minutes"):
        return f"{train['minutes']:g} minutes"
    return f"{train.get('examples') or 0:,} images"


def table(entries: list[Entry]) -> list[dict[str, Any]]:
    """A row per measure that more than one model has, or that only one can have: name, a cell per model, the trivial
    baseline, what real images score, and which way is better. The best value is marked, with all whose intervals meet
    its own."""
    order = list(dict.fromkeys(m for e in entries for rows in e.rows for m in rows))
    out = []
    for measure in order:
        found = [across(e.rows, measure) for e in entries]
        rows = [r for r in found if r]
        if not rows:
            continue
        best = leaders(found) if comparable(entries, measure) else set()
        out.append({
            "name": measure,
            "better": rows[0].get("better") or "",
            "cells": [
                {"value": show(r["value"]) if r else "–", "interval": interval(r), "best": i in best,
                 "sampler": (r or {}).get("sampler", ""),
                 "seeds": f"{r['seeds']} of {r['of']} seeds" if r and "of" in r else ""}
                for i, r in enumerate(found)
            ],
            "baseline": ends_of(rows, "baseline", "which"),
            "reference": ends_of(rows, "reference", "is"),
        })  # fmt: skip
    return out


def interval(row: dict[str, Any] | None) -> str:
    return f"{show(row['low'])} to {show(row['high'])}" if row and row.get("low") is not None else ""


def ends_of(rows: list[dict[str, Any]], value: str, name: str) -> dict[str, str]:
    """The trivial baseline, or what real images score: several where models are held against different ones."""
    found = dict.fromkeys((show(r[value]), r.get(name, "")) for r in rows if r.get(value) is not None)
    return {"value": "; ".join(v for v, _ in found), "name": "; ".join(dict.fromkeys(n for _, n in found))}


def comparable(entries: list[Entry], measure: str) -> bool:
    """Whether a measure means the same of all models: nats under one likelihood, with labels told to all or to none. What has
    its best at 1, and not at an end, has no leader."""
    if measure.startswith("memorisation"):
        return False
    if not any(word in measure for word in ("nats", "nll", "bits-per-dim")):
        return True
    kinds = set()
    for e in (e for e in entries if any(measure in rows for rows in e.rows)):
        model = e.run.config["model"]
        told = bool(model.get("num_classes") or model.get("descriptor_mean"))
        code = registry.MODELS[model["name"]].kind if model["name"] in registry.MODELS else ""
        kinds.add((model.get("likelihood", "bernoulli"), told, code == "autoencoder", bool(model.get("binarise"))))
    return len(kinds) < 2


def leaders(found: list[dict[str, Any] | None]) -> set[int]:
    """The best of several values, and all whose interval overlaps its own; nobody where one way is not better."""
    rows = {i: r for i, r in enumerate(found) if r}
    better = next((r.get("better") for r in rows.values()), "")
    if len(rows) < 2 or not better:
        return set()
    first = (min if better == "lower" else max)(rows, key=lambda i: rows[i]["value"])
    low, high = ends(rows[first])
    return {i for i, r in rows.items() if ends(r)[0] <= high and ends(r)[1] >= low}


def notes(entries: list[Entry]) -> list[str]:
    """What the features of the table are, and what to be careful about."""
    rows = [r for e in entries for found in e.rows for r in found.values()]
    return list(dict.fromkeys(r[k] for k in ("features", "note") for r in rows if k in r))


# -- costs -------------------------------------------------------------------------------------------------------------
def costs(e: Entry, model: Game) -> dict[str, Any]:
    """Time, memory and size of an entry: its first run's."""
    numbers = training(e.run)
    seconds = None
    if model.can_sample:
        model.sample(64, seed=0)  # the first call is slower
        began = time.perf_counter()
        model.sample(TIMED, seed=0)
        seconds = time.perf_counter() - began
    spent = numbers.get("training_seconds")
    return {
        "parameters": sum(p.numel() for n, p in model.named_parameters() if not n.startswith("sampler.")),
        "images_seen": numbers.get("examples"),
        "training_seconds": spent,
        "finish_seconds": numbers.get("finish_seconds"),
        "images_per_second": numbers["examples"] / spent if spent else None,
        "samples_per_second": TIMED / seconds if seconds else None,
        "peak_memory_mb": numbers.get("peak_memory_mb"),
        "bad_steps": numbers.get("bad_steps"),
    }


def cost_table(facts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    labels = {
        "parameters": "parameters", "images_seen": "images seen", "training_seconds": "training time",
        "finish_seconds": "fitting the sampler, s", "images_per_second": "images trained on per second",
        "samples_per_second": "images drawn per second", "peak_memory_mb": "memory of the process, MB",
        "bad_steps": "steps left out",
    }  # fmt: skip
    cells = {key: [f[key] for f in facts.values()] for key in labels}
    return [
        {"name": labels[k], "cells": [duration(v) if k == "training_seconds" and v is not None else quantity(v) for v in c]}
        for k, c in cells.items() if any(v is not None for v in c)
    ]  # fmt: skip


def quantity(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, float) and value >= 100 else show(value)


# -- pictures ----------------------------------------------------------------------------------------------------------
def reconstructions(name: str, model: Game, batch: Any) -> dict[str, Any]:
    """Decoded codes of held-out images: the encoder's, or those that a search finds, with what it cost."""
    out: dict[str, Any] = {"name": name, "searched": not model.has_encoder}
    began = time.perf_counter()
    if model.has_encoder:
        rebuilt = model.reconstruct(batch.image, model.labels_of(batch)).cpu()
    elif model.can_sample:
        y = model.told_with(batch)
        rebuilt = model.decode(invert(model, batch.image, y, SEARCH), y).cpu()
    else:
        return out | {"why": "no encoder"}
    seconds = (time.perf_counter() - began) / len(batch.image)
    error = float((rebuilt - batch.image).square().mean())
    return out | inline(grid(rebuilt, SHOWN)) | {"seconds": seconds, "error": error, "cost": f"{seconds:.2g} s"}


# -- curves ------------------------------------------------------------------------------------------------------------
def curves(entries: list[Entry]) -> list[dict[str, Any]]:
    """A panel per measure that several models log, over time; then the losses of each model."""
    rows = {e.name: e.run.stats() for e in entries}
    logged = {n: dict.fromkeys(k for r in found for k in r if k.startswith("validation/")) for n, found in rows.items()}
    shared = [k for k in dict.fromkeys(k for found in logged.values() for k in found)
              if sum(k in found for found in logged.values()) > 1]  # fmt: skip
    out = []
    for key in shared:
        title = ", ".join(filter(None, words(key.removeprefix("validation/"))))
        out.append({"title": f"{title} (validation)", **plot(partial(overlaid, key, rows))})
    return out


def overlaid(key: str, rows: dict[str, list[dict[str, Any]]], figure: Any, look: Look) -> None:
    axes = figure.add_subplot()
    kept: list[tuple[float, float]] = []
    for i, (name, found) in enumerate(rows.items()):
        points = [(r["seconds"], r[key]) for r in found if r.get(key) is not None]
        if points:
            axes.plot(
                *zip(*points, strict=True), "-o", color=look.series[i % len(look.series)], lw=1.3, ms=3, label=name
            )
        kept += points
    if (top := ceiling(kept)) is not None:
        axes.set_ylim(top=top)
    axes.set_xlabel("seconds of training")
    plain_axes(axes, look)
    legend(figure, axes)
