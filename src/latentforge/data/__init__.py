"""Images in, batches out. Names load on first use, so that `latentforge.data.named` can be listed without torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentforge.data.batch import Batch, Images
    from latentforge.data.dataset import Dataset, open_data

__all__ = ["Batch", "Dataset", "Images", "open_data"]

_HOME = {"Batch": "batch", "Images": "batch", "Dataset": "dataset", "open_data": "dataset"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
