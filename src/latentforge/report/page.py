"""The page of a run: one HTML file that holds its pictures, curves, numbers and settings, and needs nothing else.

Everything is read from the run directory, so the page can be written at any moment, of a finished run or not.
"""

from __future__ import annotations

import base64
import io
import json
import math
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from latentforge import registry
from latentforge.data.modes import is_points
from latentforge.display import HIDDEN, clock
from latentforge.files import write_text
from latentforge.run import Run

VALIDATION = "validation/"
WIDEST = 1400  # pixels of an inlined picture; larger ones are shrunk
MOMENTS = 8  # previews shown in the strip
RESOLVED = {"device", "precision"}  # written down as what `auto` came to, so never a change by the user
SERIES = {  # colours that hold on white and on black
    False: ("#2f6db3", "#c9621c", "#2c8a5b", "#8a4fa8", "#a8892b"),
    True: ("#6ea8e6", "#f0955a", "#5fc492", "#c08fdd", "#d9bd62"),
}


def write_report(run: Run) -> Path:
    """Write RUN/report.html from what the run holds so far; returns its path."""
    rows, metrics = run.stats(), read_metrics(run)
    name, images, train = run.config["model"]["name"], run.config.get("images") or {}, run.config["train"]
    known = registry.MODELS.get(name)  # None for a model that is no part of the package
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    seen = {r["round"]: r["examples"] for r in rows}
    samples, pairs = previews(run, "samples"), previews(run, "reconstructions")
    page = environment.get_template("page.html").render(
        name=name,
        summary=known.summary if known else "",
        paper=known.paper if known else "",
        images=images,
        points=is_points(images.get("shape") or ()),
        shape="×".join(map(str, images.get("shape", ()))),
        state=state(run, rows),
        numbers=key_numbers(rows),
        samples=newest(samples, seen),
        pairs=newest(pairs, seen),
        moments=moments(samples, seen, images.get("shape")),
        curves=curves(rows),
        tables=[table(title, section) for title, section in metrics.items() if title != "training"],
        commands=commands(run),
        settings=[
            ("Model", model_settings(run.config["model"])),
            ("Training", train_settings(train)),
            ("Data", against_defaults(data_facts(run), {}, {})),
            ("Machine", against_defaults(machine(run), {}, {})),
        ],
        version=run.config.get("latentforge", ""),
    )
    path = run.path / "report.html"
    write_text(path, page)
    return path


def read_metrics(run: Run) -> dict[str, Any]:
    """`metrics.json`; empty where there is none or it cannot be read."""
    try:
        found = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# -- numbers ---------------------------------------------------------------------------------------------------------
def show(value: Any) -> str:
    """A value for people: 4 significant digits, thousands set apart, lists without brackets."""
    if value is None or value == [] or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e6:
            return f"{int(value):,}"
        return f"{value:.4g}" if not 1000 <= abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(show, value))
    return str(value)


def words(name: str) -> tuple[str, str]:
    """'reconstruction_mse' -> ('reconstruction', 'MSE'): what is measured, and its unit."""
    for end, unit in (("_nats", "nats"), ("_mse", "MSE"), ("_logit", "logit")):
        if name.endswith(end):
            return name.removesuffix(end).replace("_", " "), unit
    return name.replace("_", " "), ""


def short(n: float) -> str:
    """12000 -> '12k'."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:.3g}"


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
        {"value": clock(seconds), "unit": "h:min:s" if seconds >= 3600 else "min:s", "label": "training time"},
        {"value": f"{examples:,}", "unit": "", "label": "images seen"},
        {"value": rate, "unit": "images/s", "label": "with previews and checkpoints"},
    ]
    return [measures, cost]


def table(title: str, section: Any) -> dict[str, Any]:
    """A section of `metrics.json` as header and rows of text. Measures with fields of their own get a column per field,
    lists of records a row per record, anything else a row per value."""
    section = section if isinstance(section, dict | list) else {"value": section}
    if isinstance(section, list):
        section = {str(i + 1): v for i, v in enumerate(section)}
    fields = list(dict.fromkeys(f for v in section.values() if isinstance(v, dict) for f in v))
    if not fields:
        return {"title": title, "header": ["measure", "value"], "rows": [[k, show(v)] for k, v in section.items()]}
    body = [[k, *(show(cell.get(f)) for f in fields)] for k, v in section.items()
            for cell in [v if isinstance(v, dict) else {fields[0]: v}]]  # fmt: skip
    return {"title": title, "header": ["measure", *fields], "rows": body}


# -- pictures --------------------------------------------------------------------------------------------------------
def inline(image: Image.Image) -> dict[str, Any]:
    """A picture as a data: URI with its size."""
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return {"uri": data_uri(buffer.getvalue()), "width": image.width, "height": image.height}


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def previews(run: Run, kind: str) -> list[tuple[int, Path]]:
    """(round, file) of the previews of this kind, oldest first."""
    return [(int(f.stem.rpartition("-")[2]), f) for f in sorted((run.path / "previews").glob(f"{kind}-*.png"))]


def moment(round_: int, seen: dict[int, int]) -> str:
    return f"{short(seen[round_])} images" if round_ in seen else f"round {round_:,}"


def newest(found: list[tuple[int, Path]], seen: dict[int, int]) -> dict[str, Any] | None:
    if not found:
        return None
    round_, file = found[-1]
    with Image.open(file) as image:
        return inline(image) | {"when": moment(round_, seen)}


def moments(found: list[tuple[int, Path]], seen: dict[int, int], shape: list[int] | None) -> list[dict[str, Any]]:
    """The same few samples at moments spread over the run, its first and last among them."""
    if len(found) < 2:
        return []
    n = min(MOMENTS, len(found))
    out = []
    for i in range(n):
        round_, file = found[round(i * (len(found) - 1) / (n - 1))]
        with Image.open(file) as sheet:
            wide, high = sheet.size
            if shape and not is_points(shape):  # the first 4 x 4 of the grid, whose gaps are 2 wide
                wide, high = 4 * (shape[2] + 2) + 2, 4 * (shape[1] + 2) + 2
            image = sheet.crop((0, 0, min(wide, sheet.width), min(high, sheet.height)))
            image.thumbnail((360, 360))
            out.append(inline(image) | {"when": moment(round_, seen)})
    return out


# -- curves ----------------------------------------------------------------------------------------------------------
def curves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Panels of curves over images seen, in three groups; each drawn for light and for dark pages."""
    names = list(dict.fromkeys(k.removeprefix(VALIDATION) for r in rows for k in r if k not in HIDDEN))
    trained = {k for r in rows for k in r}
    names.sort(key=lambda name: name not in trained)
    costs, shares, logits = "cost of each side, nats", "share of rounds sat out", "the critic's logits (validation)"
    groups: dict[str, dict[str, list[str]]] = {
        "Losses": {}, "Critic against generator": {costs: [], shares: [], logits: []}, "Other": {},
    }  # fmt: skip
    for name in names:
        if name.endswith("_sits_out"):
            groups["Critic against generator"][shares].append(name)
        elif name.endswith("_logit"):
            groups["Critic against generator"][logits].append(name)
        elif name.startswith(("critic", "generator", "fool")):
            groups["Critic against generator"][costs].append(name)
        else:
            title = ", ".join(filter(None, words(name))) + ("" if name in trained else " (validation)")
            groups["Losses" if name == "loss" or name.endswith("_nats") else "Other"][title] = [name]
    out = []
    for title, panels in groups.items():
        drawn = [{"title": t, **{k: draw(t, p, rows, k == "dark") for k in ("light", "dark")}}
                 for t, p in panels.items() if p]  # fmt: skip
        if drawn:
            out.append({"title": title, "panels": drawn})
    return out


def draw(title: str, names: list[str], rows: list[dict[str, Any]], dark: bool) -> str:
    """One panel as a data: URI: a line per training curve, dots for validation."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ink, line = ("#b9bec6", "#3b4048") if dark else ("#565b63", "#dddfe3")
    style: Any = {
        "text.parse_math": False, "font.size": 9.0, "text.color": ink, "axes.labelcolor": ink, "xtick.color": ink,
        "ytick.color": ink, "axes.edgecolor": line,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(3.7, 2.4), dpi=172, layout="constrained")
        axes = figure.add_subplot()
        kept: list[tuple[float, float]] = []
        for i, name in enumerate(names):
            colour = SERIES[dark][i % 5]
            points = [(r["examples"], r[name]) for r in rows if r.get(name) is not None]
            checks = [(r["examples"], r[VALIDATION + name]) for r in rows if r.get(VALIDATION + name) is not None]
            label = words(name)[0]
            if points:
                marker = "o" if len(points) == 1 else None
                axes.plot(*zip(*points, strict=True), color=colour, lw=1.3, marker=marker, ms=3, label=label)
            if checks:
                if len(names) == 1:
                    label = "validation"
                elif points:
                    label += ", validation"
                axes.plot(*zip(*checks, strict=True), "o", color=colour, mec=ink, mew=0.6, ms=4, label=label)
            kept += points + checks
        if title.startswith("cost of each side"):
            axes.axhline(math.log(2), color=ink, lw=0.8, ls=(0, (4, 3)), zorder=0, label="ln 2, an even game")
        if title.startswith("share"):
            axes.set_ylim(-0.05, 1.05)
        elif (top := ceiling(kept)) is not None:
            axes.set_ylim(top=top)
        axes.set_xlabel("images seen")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", color=line, lw=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        handles, labels = axes.get_legend_handles_labels()
        if len(handles) > 1:
            columns = min(len(handles), 2)
            figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", transparent=True)
    return data_uri(buffer.getvalue())


def ceiling(points: list[tuple[float, float]]) -> float | None:
    """Where to cut the axis so that the fall of the first moments does not flatten the rest: None for nowhere."""
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if len(points) < 20:
        return None
    start = 0.05 * max(x for x, _ in points)
    rest = [y for x, y in points if x > start]
    spread = max(rest) - min(rest)
    top = max(rest) + 0.08 * spread
    return top if spread and max(y for _, y in points) > max(rest) + spread else None


# -- settings --------------------------------------------------------------------------------------------------------
def model_settings(model: dict[str, Any]) -> list[dict[str, Any]]:
    values = {k: v for k, v in model.items() if k != "name"}
    if model["name"] not in registry.MODELS:
        return against_defaults(values, {}, {})
    cls = registry.model_class(model["name"])
    defaults = {k: p.default for k, p in registry.arguments(cls).items() if p.default is not p.empty}
    return against_defaults(values, defaults, registry.argument_help(cls))


def train_settings(options: dict[str, Any]) -> list[dict[str, Any]]:
    from latentforge.api import trainer_options
    from latentforge.train import Trainer

    defaults = {k: v for k, v in trainer_options().items() if k not in RESOLVED}
    return against_defaults(options, defaults, registry.argument_help(Trainer))


def against_defaults(values: dict[str, Any], defaults: dict[str, Any], helps: dict[str, str]) -> list[dict[str, Any]]:
    """A row per setting, marked where it differs from its default."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
    return [{"name": k, "value": show(v), "changed": k in plain and v != plain[k], "help": helps.get(k, "")}
            for k, v in values.items()]  # fmt: skip


def data_facts(run: Run) -> dict[str, Any]:
    images = {k: v for k, v in (run.config.get("images") or {}).items() if k != "notes"}
    return run.config["data"] | images


def machine(run: Run) -> dict[str, Any]:
    return (run.config.get("machine") or {}) | {k: run.config["train"].get(k) for k in ("device", "precision")}


def commands(run: Run) -> list[tuple[str, str]]:
    """(what for, command) with the run's path as it was given; only what this run can do."""
    path, quoted = shlex.quote(str(run.path)), repr(str(run.path))
    memory = run.config["data"]["source"] == "memory"  # such a run goes on from Python only
    why = "Train on, to a larger total" if run.finished else "Continue where it stopped"
    if memory:
        more = ", epochs=NEW_TOTAL" if run.finished else ""
        resume = f"import latentforge as lf; lf.resume({quoted}, data=YOUR_ARRAYS{more})"
    else:
        resume = f"latentforge resume {path}" + (" --epochs NEW_TOTAL" if run.finished else "")
    if not run.finished and not any((run.path / "checkpoints").glob("*.safetensors")):
        return [(why, resume)]
    return [
        ("Draw 64 new images", f"latentforge sample {path} -n 64 --out samples.png"),
        (why, resume),
        *([] if memory else [("Measure it on the test images", f"latentforge evaluate {path}")]),
        ("Use it in Python", f"import latentforge as lf; images = lf.load({quoted}).sample(64)"),
    ]
