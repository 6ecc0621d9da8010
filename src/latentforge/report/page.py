"""The page of a run: one HTML file that holds its pictures, curves, numbers and settings, and needs nothing else.

Everything is read from the run directory, so the page can be written at any moment, of a finished run or not.
"""

from __future__ import annotations

import errno
import math
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from latentforge import registry
from latentforge.data.modes import is_points
from latentforge.diagnose.history import GRADIENT
from latentforge.diagnose.rules import CROSS_ENTROPIES
from latentforge.display import POSITION, duration
from latentforge.errors import InputError, RunError
from latentforge.files import write_text
from latentforge.report.plots import Look, inline, legend, plain_axes, plot
from latentforge.report.settings import against_defaults, commands, data_facts, machine, model_settings, train_settings
from latentforge.report.words import HEADINGS, origin, rounded, show, words
from latentforge.run import Run

VALIDATION = "validation/"
SIGNS = {  # panels of what the doctor looks at
    "samples against real images": ("diversity", "coverage", "duplicates", "nearest"),
    "how often the critic tells": ("critic_tells", "critic_knows"),
    "codes and reconstructions": ("rebuilt", "active", "gap"),
}
BELOW = ("features", "note")  # of a measure, told once below the table
MOMENTS = 8  # previews shown in the strip
FEW = 8  # points of a curve that is shown whole


def write_report(run: Run) -> Path:
    """Write RUN/report.html from what the run holds so far; returns its path."""
    metrics = run.metrics()
    rows, findings = split_findings(run)
    name, images, train = run.config["model"]["name"], run.config.get("images") or {}, run.config["train"]
    known = registry.MODELS.get(name)  # None for a model that is no part of the package
    seen = {r["round"]: r["examples"] for r in rows}
    samples, pairs = previews(run, "samples"), previews(run, "reconstructions")
    latent = learned_or_why(run)
    page = template("page.html").render(
        name=name,
        summary=known.summary if known else "",
        paper=known.paper if known else "",
        images=images,
        origin=origin(run.config),
        points=is_points(images.get("shape") or ()),
        shape="×".join(map(str, images.get("shape", ()))),
        state=state(run, rows),
        numbers=key_numbers(rows),
        samples=(latent or {}).get("samples") or newest(samples, seen),
        pairs=newest(pairs, seen),
        restored=newest(previews(run, "restorations"), seen),
        moments=moments(samples, seen, is_points(images.get("shape") or ())),
        findings=findings,
        latent=latent,
        curves=curves(rows, even_game(run.config["model"])),
        tables=[table(title, section) for title, section in metrics.items() if title not in ("training", "evaluated")],
        commands=commands(run),
        settings=[
            ("Model", model_settings(run.config["model"])),
            ("Training", train_settings(train, name)),
            ("Data", against_defaults(data_facts(run), {}, {})),
            ("Machine", against_defaults(machine(run), {}, {})),
        ],
        version=run.config.get("latentforge", ""),
    )
    path = run.path / "report.html"
    try:
        write_text(path, page)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):  # a full disk is not the user's mistake
            raise
        raise InputError(
            f"{path} cannot be written ({error.strerror}); copy the run to a place of your own and write it there."
        ) from None
    return path


def learned_or_why(run: Run) -> dict[str, Any] | None:
    """`learned`, or as `missing` why there is nothing to show: images that were in memory or have been moved, a damaged model,
    want of memory."""
    try:
        return learned(run)
    except (InputError, RunError, MemoryError) as error:
        return {"missing": str(error) or "they take more memory than there is."}


def learned(run: Run) -> dict[str, Any] | None:
    """Pictures of the latent space of a finished run, and `samples` where a sampler was fitted, which the previews of most
    models have not seen; None for models without a latent space."""
    from latentforge.api import data_of
    from latentforge.metrics.subject import Subject
    from latentforge.report.pictures import latent_space, samples
    from latentforge.saving import load

    known = registry.MODELS.get(run.config["model"]["name"])
    if not run.finished or known is None or known.kind == "restorer":
        return None
    data, model = data_of(run), load(run.path)
    found = latent_space({model.name: model}, Subject(model, data, features=("pca50",)))
    return found if model.sampler is None else found | {"samples": samples(model, data)}


def split_findings(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of numbers, and what the doctor found."""
    rows = run.stats()
    found = [r | {"when": f"{100 * r.get('progress', 0):.0f} %"} for r in rows if "finding" in r]
    return [r for r in rows if "finding" not in r], found


def template(name: str) -> Any:
    """A page's template; a variable it is not given is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    ).get_template(name)  # fmt: skip


# -- numbers ---------------------------------------------------------------------------------------------------------
def state(run: Run, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the run is finished, else how far it is; and how many steps it had to leave out."""
    progress = next((r["progress"] for r in reversed(rows) if "progress" in r), 0.0)
    bad = next((r["bad_steps"] for r in reversed(rows) if "bad_steps" in r), 0)
    return {"finished": run.finished, "started": bool(rows), "percent": f"{100 * progress:.0f}", "bad_steps": bad}


def key_numbers(rows: list[dict[str, Any]]) -> list[list[dict[str, str]]]:
    """Two rows of numbers: the last validation measures, and what they cost."""
    last: dict[str, Any] = next((r for r in reversed(rows) if any(k.startswith(VALIDATION) for k in r)), {})
    measures = []
    for key, value in last.items():
        if key.startswith(VALIDATION):
            label, unit = words(key.removeprefix(VALIDATION))
            measures.append({"value": show(value), "unit": unit, "label": f"{label} on validation images"})
    if not rows:
        return []
    seconds, examples = rows[-1]["seconds"], rows[-1]["examples"]
    rate = f"{examples / seconds:,.0f}" if seconds else "–"
    cost = [
        {"value": duration(seconds), "unit": "h:min:s" if seconds >= 3600 else "min:s", "label": "training time"},
        {"value": f"{examples:,}", "unit": "", "label": "images seen"},
        {"value": rate, "unit": "images/s", "label": "with previews and checkpoints"},
    ]
    return [measures, cost]


def table(title: str, section: Any) -> dict[str, Any]:
    """A section of `metrics.json` as header and rows of text, with what is to be said below it. Measures with fields of
    their own get a column per field, lists of records a row per record, anything else a row per value."""
    section = section if isinstance(section, dict | list) else {"value": section}
    if isinstance(section, list):
        section = {str(i + 1): v for i, v in enumerate(section)}
    cells = {k: with_interval(v) if isinstance(v, dict) else v for k, v in section.items()}
    fields = list(dict.fromkeys(f for v in cells.values() if isinstance(v, dict) for f in v))
    below = list(dict.fromkeys(v[k] for k in BELOW for v in section.values() if isinstance(v, dict) and k in v))
    if not fields:
        rows = [[k, show(v)] for k, v in section.items()]
        return {"title": title, "header": ["measure", "value"], "rows": rows, "below": []}
    body = [[k, *(show(cell.get(f)) for f in fields)] for k, v in cells.items()
            for cell in [v if isinstance(v, dict) else {fields[0]: v}]]  # fmt: skip
    return {"title": title, "header": ["measure", *(HEADINGS.get(f, f) for f in fields)], "rows": body, "below": below}


def with_interval(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the ends of its interval in one column, without what stands below the table."""
    out = {}
    for k, v in row.items():
        if k == "low" and row.get("high") is not None:
            out["95 % interval"] = f"{show(v)} to {show(row['high'])}"
        elif k not in ("low", "high", *BELOW):
            out[k] = v
    return out


# -- pictures --------------------------------------------------------------------------------------------------------
def previews(run: Run, kind: str) -> list[tuple[int, Path]]:
    """(round, file) of the previews of this kind, oldest first; what else is in their folder is somebody's own."""
    found = [(f.stem.rpartition("-")[2], f) for f in sorted((run.path / "previews").glob(f"{kind}-*.png"))]
    return [(int(number), f) for number, f in found if number.isdecimal()]


def moment(round_: int, seen: dict[int, int]) -> str:
    return f"{rounded(seen[round_])} images" if round_ in seen else f"round {round_:,}"


def sound(file: Path) -> Image.Image | None:
    """A preview; None where it is damaged, as where a copy of the run was cut short."""
    try:
        with Image.open(file) as image:
            return image.copy()
    except (OSError, SyntaxError, ValueError):
        return None


def newest(found: list[tuple[int, Path]], seen: dict[int, int]) -> dict[str, Any] | None:
    for round_, file in reversed(found):
        if (image := sound(file)) is not None:
            return inline(image) | {"when": moment(round_, seen)}
    return None


def moments(found: list[tuple[int, Path]], seen: dict[int, int], points: bool) -> list[dict[str, Any]]:
    """Samples of one seed at moments spread over the run, its first and last among them."""
    if len(found) < 2:
        return []
    n = min(MOMENTS, len(found))
    out = []
    for i in range(n):
        round_, file = found[round(i * (len(found) - 1) / (n - 1))]
        if (sheet := sound(file)) is None:
            continue
        wide, high = sheet.size
        if not points:  # the first 4 x 4 of 8 x 8, whose gaps are 2 wide
            wide, high = (wide - 2) // 2 + 2, (high - 2) // 2 + 2
        image = sheet.crop((0, 0, wide, high))
        image.thumbnail((360, 360))
        out.append(inline(image) | {"when": moment(round_, seen)})
    return out


# -- curves ----------------------------------------------------------------------------------------------------------
def even_game(model: dict[str, Any]) -> dict[str, float]:
    """What the sides of a model's game pay in an even one, nats, and in words; nothing where their costs are not in nats."""
    loss = model.get("loss")
    if loss not in CROSS_ENTROPIES:
        return {}
    if loss == "relativistic":
        return {"ln 2, critic at chance": math.log(2), "ln 2 / 2, each loss of the critic": math.log(2) / 2}
    if model.get("fakes") == "both" and model.get("objective") == "larsen":  # two of them face each real image
        return {"ln 3, critic at chance": math.log(3), "ln 3/2, generated images": math.log(1.5)}
    return {"ln 2, critic at chance": math.log(2)}


def grouped(rows: list[dict[str, Any]], costs: str) -> dict[str, dict[str, list[str]]]:
    """Which curves share a panel, and which panels a group: group -> title -> names. What the sides of a game pay is titled
    `costs`."""
    names = list(dict.fromkeys(k.removeprefix(VALIDATION) for r in rows for k in r if k not in POSITION))
    trained = {k for r in rows for k in r}
    names.sort(key=lambda name: name not in trained)
    shares, logits = "share of rounds sat out", "the critic's logits (validation)"
    norms = "norm of each player's gradient"
    groups: dict[str, dict[str, list[str]]] = {
        "Losses": {}, "Critic against generator": {costs: [], shares: [], logits: []},
        "Signs": {title: [] for title in SIGNS}, "Other": {norms: []},
    }  # fmt: skip
    for name in names:
        if name.startswith("sign/"):
            title = next((t for t, found in SIGNS.items() if name.removeprefix("sign/") in found), None)
            if title is not None:
                groups["Signs"][title].append(name)
        elif name.startswith(GRADIENT):
            groups["Other"][norms].append(name)
        elif name.endswith("_sits_out"):
            groups["Critic against generator"][shares].append(name)
        elif name.endswith("_logit"):
            groups["Critic against generator"][logits].append(name)
        elif name.startswith(("critic", "generator", "fool")) and not name.endswith("_error"):
            groups["Critic against generator"][costs].append(name)
        else:
            title = ", ".join(filter(None, words(name))) + ("" if name in trained else " (validation)")
            groups["Losses" if name == "loss" or name.endswith("_nats") else "Other"][title] = [name]
    return groups


def curves(rows: list[dict[str, Any]], even: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Panels of curves over images seen, in four groups; each drawn for light and for dark pages. `even` is `even_game` of
    the model."""
    costs = "cost of each side" + (", nats" if even else "")
    out = []
    for title, panels in grouped(rows, costs).items():
        drawn = [
            {"title": t, **plot(partial(panel, t, names, rows, even or {} if t == costs else {}))}
            for t, names in panels.items()
            if names
        ]
        if drawn:
            out.append({"title": title, "panels": drawn})
    return out


def panel(
    title: str, names: list[str], rows: list[dict[str, Any]], even: dict[str, float], figure: Any, look: Look
) -> None:  # fmt: skip
    """A line per training curve, dots for validation; dashes at the heights in `even`."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes = figure.add_subplot()
    kept: list[tuple[float, float]] = []
    for i, name in enumerate(names):
        colour = look.series[i % len(look.series)]
        points = [(r["examples"], r[name]) for r in rows if r.get(name) is not None]
        checks = [(r["examples"], r[VALIDATION + name]) for r in rows if r.get(VALIDATION + name) is not None]
        label = words(name.rpartition("/")[2])[0]
        if points:
            marker = "o" if len(points) == 1 else None
            axes.plot(*zip(*points, strict=True), color=colour, lw=1.3, marker=marker, ms=3, label=label)
        if checks:
            if len(names) == 1:
                label = "validation"
            elif points:
                label += ", validation"
            axes.plot(*zip(*checks, strict=True), "o", color=colour, mec=look.ink, mew=0.6, ms=4, label=label)
        kept += points + checks
    for i, (label, height) in enumerate(even.items()):
        axes.axhline(height, color=look.ink, lw=0.8, ls=(0, (4 - 3 * i, 3)), zorder=0, label=label)
    if title.startswith("share"):
        axes.set_ylim(-0.05, 1.05)
    elif (top := ceiling(kept)) is not None:
        axes.set_ylim(top=top)
    axes.set_xlabel("images seen")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: rounded(v)))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    plain_axes(axes, look)
    legend(figure, axes)


def ceiling(points: list[tuple[float, float]]) -> float | None:
    """Where to cut the axis so that the fall of the first moments does not flatten the rest: None for nowhere."""
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if len(points) < FEW:
        return None
    start = 0.05 * max(x for x, _ in points)
    rest = [y for x, y in points if x > start]
    spread = max(rest) - min(rest)
    top = max(rest) + 0.08 * spread
    return top if spread and max(y for _, y in points) > max(rest) + spread else None
