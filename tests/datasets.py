"""Where the full data sets are, and the one check every bad-input test makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from latentforge.errors import InputError

FULL = Path(os.environ.get("LATENTFORGE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
needs_full = pytest.mark.skipif(
    not (FULL / "mnist").is_dir(), reason=f"no full data sets in {FULL}; set LATENTFORGE_DATA to their folder"
)


def refused(call: Callable, *parts: object) -> str:
    """The message of the InputError that `call` must raise: one line that contains each of `parts`."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) > 15
    for part in parts:
        assert str(part) in message, message
    return message
