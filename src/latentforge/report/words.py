"""Values and names for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HEADINGS = {"which": "baseline is", "is": "reference is"}  # of the columns of a row of `evaluate`


def origin(config: dict[str, Any]) -> str:
    """Where the images of a run come from, in a word: the name of the set, of the file or of the folder, without its path
    on this machine."""
    images, source = config.get("images") or {}, (config.get("data") or {}).get("source")
    if source is None or source == "memory":
        return str(images.get("from", "data not recorded"))
    return Path(source).name


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


def rounded(n: float) -> str:
    """12000 -> '12k'."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:.3g}"
