"""Tables on the terminal, and the same rows as JSON."""

from __future__ import annotations

import json
import sys
from math import isfinite
from typing import Any


def print_table(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows with the same keys; wrapped to the terminal, plain and complete where there is none. In JSON, which has no word
    for nan and infinity, they are null."""
    if as_json:
        plain = [{k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()} for row in rows]
        print(json.dumps(plain, indent=2, default=str))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else []:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*[escape(number(v)) for v in row.values()])
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def number(value: Any) -> str:
    """Four significant digits for floats, '' for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
