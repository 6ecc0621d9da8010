"""Presets: a command with everything set, its expected result written beside it. `presets/DATA/NAME.yaml`."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

from latentforge.errors import InputError, suggest
from latentforge.limits import BUDGET


def list_presets() -> list[str]:
    """Names like mnist/vae."""
    root = resources.files(__name__)
    folders = [f for f in root.iterdir() if f.is_dir() and not f.name.startswith("_")]
    return sorted(f"{f.name}/{p.name[:-5]}" for f in folders for p in f.iterdir() if p.name.endswith(".yaml"))


def load(name: str, small: bool = False) -> dict[str, Any]:
    """The preset as a dict: model, about, article, data, arguments, train, expected, small. `small` applies the small
    variant's settings, which a laptop finishes in a minute or two."""
    names = list_presets()
    if name not in names:
        raise InputError(f"there is no preset '{name}'.{suggest(name, names)}")
    text = resources.files(__name__).joinpath(*f"{name}.yaml".split("/")).read_text(encoding="utf-8")
    preset = yaml.safe_load(text)
    if small:
        for section, changes in preset["small"].items():
            preset[section] = {**preset.get(section, {}), **changes}
            if section == "train":
                for budget in set(BUDGET) - set(changes):
                    preset["train"].pop(budget, None)
    return preset
