"""What a comparison says in plain words, on the points article 004 compares models by. Every sentence is made from a
measured number and shows it; nothing is said where nothing was measured."""

from __future__ import annotations

from typing import Any

from latentforge.report.words import show
from latentforge.tasks.compare import Entry, across, ends

Row = dict[str, Any]


def verdict(
    entries: list[Entry], facts: dict[str, dict[str, Any]], rebuilt: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Headings with their sentences."""
    rows = {e.name: across_all(e) for e in entries}
    parts = {
        "Samples": samples(rows),
        "Reconstruction": reconstruction(rows, rebuilt),
        "Interpretability": interpretability(rows, rebuilt),
        "Data needs": data_needs(rows, facts),
        "Speed and memory": speed(entries, facts),
        "Supervision": supervision(entries, rows),
    }
    return [{"title": title, "sentences": found} for title, found in parts.items() if found]


def across_all(e: Entry) -> dict[str, Row]:
    found = {m: across(e.rows, m) for m in dict.fromkeys(m for r in e.rows for m in r)}
    return {m: r for m, r in found.items() if r is not None}


def first(rows: dict[str, Row], start: str) -> tuple[str, Row] | None:
    return next(((m, r) for m, r in rows.items() if m.startswith(start)), None)


def column(rows: dict[str, dict[str, Row]], start: str) -> tuple[str, dict[str, Row]]:
    """The measure that begins with `start` and its row in every model that has it."""
    found = {n: hit for n, r in rows.items() if (hit := first(r, start))}
    measure = next((m for m, _ in found.values()), "")
    return measure, {n: r for n, (m, r) in found.items() if m == measure}


def ranked(rows: dict[str, Row]) -> list[str]:
    """Names from best to worst."""
    low = next(iter(rows.values()))["better"] == "lower"
    return sorted(rows, key=lambda n: rows[n]["value"] if low else -rows[n]["value"])


def apart(a: Row, b: Row) -> bool:
    """Whether two intervals do not meet."""
    return ends(a)[1] < ends(b)[0] or ends(b)[1] < ends(a)[0]


def lead(measure: str, rows: dict[str, Row], what: str) -> str:
    """Who is first, by how much, and whether that is more than chance, as far as it is known."""
    order = ranked(rows)
    best = rows[order[0]]
    text = f"{order[0]} {what} ({measure} {show(best['value'])}"
    if len(order) > 1:
        second = rows[order[1]]
        several = [r.get("seeds", 1) > 1 for r in (best, second)]
        kind = "ranges over the seeds" if all(several) else "intervals" if any(several) else "95 % intervals"
        close = "" if apart(best, second) else f", a difference within the {kind}"
        if best.get("low") is None or second.get("low") is None:
            close = ", no interval"
        text += f"; next {order[1]}, {show(second['value'])}{close}"
    if best.get("reference") is not None:
        text += f"; {best['is']}: {show(best['reference'])}"
    return text + ")."


def samples(rows: dict[str, dict[str, Row]]) -> list[str]:
    out = []
    for start, what in (("frechet-", "has the samples closest to real images"),
                        ("coverage-", "covers the largest share of the real images")):  # fmt: skip
        measure, found = column(rows, start)
        if len(found) > 1:
            out.append(lead(measure, found, what))
    # in principal components the baseline, which is made of them, is nearly as good as can be
    rest = {n: {m: r for m, r in own.items() if not m.startswith("frechet-pca")} for n, own in rows.items()}
    _, found = column(rest, "frechet-")
    worse = [n for n, r in found.items() if r.get("baseline") is not None and r["value"] >= r["baseline"]]
    if worse:
        base = next(iter(found.values()))
        out.append(
            f"No better than the trivial baseline ({base['which']}, {show(base['baseline'])}): {', '.join(worse)}."
        )
    _, found = column(rows, "rarest-class")
    lost = [f"{n} ({show(r['value'])})" for n, r in found.items() if r["value"] < 0.3]
    if lost:
        out.append(f"Some class hardly appears in the samples of {', '.join(lost)}: its share over that of the data.")
    return out


def reconstruction(rows: dict[str, dict[str, Row]], rebuilt: list[dict[str, Any]]) -> list[str]:
    out = []
    _, found = column(rows, "reconstruction_mse")
    if len(found) > 1:
        out.append(lead("squared error", found, "reconstructs images most accurately"))
    worse = [n for n, r in found.items() if r.get("baseline") is not None and r["value"] >= r["baseline"]]
    if worse:
        told = ", ".join(f"{n} ({found[n]['which']}: {show(found[n]['baseline'])})" for n in worse)
        out.append(f"PCA with as many components reconstructs as well as or better than {told}.")
    out += [
        f"{r['name']} has no encoder: the code of an image is searched for, {r['cost']} each, and leaves a squared error "
        f"of {show(r['error'])} on the images shown."
        for r in rebuilt if r.get("searched") and "error" in r
    ]  # fmt: skip
    return out


def interpretability(rows: dict[str, dict[str, Row]], rebuilt: list[dict[str, Any]]) -> list[str]:
    out = []
    _, found = column(rows, "1-nn")
    if found:
        best = ranked(found)
        told = ", ".join(f"{n} {found[n]['value']:.1%}" for n in best)
        base = found[best[0]]
        out.append(
            f"Class of an image found by its nearest neighbour in latent space: {told}; baseline {base['which']} "
            f"{base['baseline']:.1%}."
        )
    _, found = column(rows, "active-units")
    if found:
        told = ", ".join(f"{n} {r['value']:g} of {r['reference']:g}" for n, r in found.items())
        out.append(f"Dimensions of the code that follow the image: {told}.")
    without = [r["name"] for r in rebuilt if r.get("searched")]
    if without:
        out.append(f"{', '.join(without)}: no encoder, so the code of an image has to be searched for.")
    _, found = column(rows, "unevenness-")
    if len(found) > 1:
        out.append(lead("largest over mean step", found, "changes most evenly between two codes"))
    return out


def data_needs(rows: dict[str, dict[str, Row]], facts: dict[str, dict[str, Any]]) -> list[str]:
    out = []
    seen = {n: f["images_seen"] for n, f in facts.items() if f["images_seen"]}
    if seen:
        out.append("Images drawn in training: " + ", ".join(f"{n} {v:,}" for n, v in seen.items()) + ".")
    _, found = column(rows, "memorisation")
    near = [f"{n} ({show(r['value'])})" for n, r in found.items() if ends(r)[1] < 0.9]
    if near:
        base = next(iter(found.values()))
        out.append(f"Samples lie nearer to training images than unseen ones do: {', '.join(near)}; 1 is as far, and "
                   f"{base['which']} scores {show(base['baseline'])}.")  # fmt: skip
    elif found:
        out.append("No model's samples lie clearly nearer to training images than unseen images do.")
    return out


def speed(entries: list[Entry], facts: dict[str, dict[str, Any]]) -> list[str]:
    out = []
    devices = [(e.run.config.get("train") or {}).get("device") or "cpu" for e in entries]
    for key, what, sign in (
        ("images_per_second", "trains fastest, {} images a second", -1),
        ("samples_per_second", "draws fastest, {} images a second", -1),
        ("peak_memory_mb", "needs least memory to train, {} MB of the process", 1),
        ("parameters", "is smallest, {} parameters", 1),
    ):
        if key == "peak_memory_mb" and set(devices) != {"cpu"}:
            continue  # a GPU's memory is not the process's
        found = {n: float(f[key]) for n, f in facts.items() if f[key]}
        if len(found) > 1:
            name = min(found, key=lambda n: sign * found[n])
            rest = ", ".join(f"{n} {v:,.0f}" for n, v in found.items() if n != name)
            out.append(f"{name} {what.format(f'{found[name]:,.0f}')} ({rest}).")
    return out


def supervision(entries: list[Entry], rows: dict[str, dict[str, Row]]) -> list[str]:
    out = []
    labels = ("num_classes", "descriptor_mean")  # how a model is told them
    told = [e.name for e in entries if any(e.run.config["model"].get(k) for k in labels)]
    if told:
        others = "; the others without" if len(told) < len(entries) else ""
        out.append(f"Trained with labels: {', '.join(told)}{others}.")
    elif len(entries) > 1:
        out.append("No model was trained with labels.")
    _, found = column(rows, "as-asked")
    out += [f"{n} draws what it is asked for in {r['value']:.1%} of its samples." for n, r in found.items()]
    _, found = column(rows, "tstr")
    out += [
        f"A classifier that has seen samples of {n} only is right about {r['value']:.1%} of real images; trained on as many "
        f"real ones, {r['reference']:.1%}."
        for n, r in found.items()
    ]
    return out
