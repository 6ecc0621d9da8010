"""Every cell of the zoo trains, is measured and gets its row; the long form is `make zoo`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import zoo

from latentforge.registry import MODELS


@pytest.mark.parametrize("cell", list(zoo.CELLS))
def test_a_cell_of_the_zoo(cell, tmp_path):
    result = zoo.measure(cell, "mnist-5k", ["--examples", "256"], None, tmp_path / "zoo", inside=True)
    assert (tmp_path / "zoo" / f"{cell}.json").exists()
    assert any(name.startswith("coverage") for name in result["test"]), "nothing was said of its samples"
    row = zoo.table({cell: result}).splitlines()[2]
    assert row.startswith(f"| `{zoo.CELLS[cell]}` |")
    assert row.count("|") == zoo.table({cell: result}).splitlines()[0].count("|")


def test_every_model_is_in_the_zoo():
    assert {command.split()[0] for command in zoo.CELLS.values()} == set(MODELS)
