"""Encoded images in a parquet file, read a few row groups at a time."""

from __future__ import annotations

import bisect
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from latentforge.data.arrays import contiguous, labels_from_array, numbered, unknown_labels
from latentforge.data.decode import Found, Item, Part, Size, read_images, reason, shown, some
from latentforge.data.room import available_memory, check_memory
from latentforge.errors import InputError

IMAGES = ("image", "img")
LABELS = ("label", "labels", "fine_label", "class")
GROUPS = 8  # row groups held at a time, where they fit: as many as there are threads that decode


def read_parquet(
    path: Path, image_size: Size | None = None, channels: int | None = None, skip_bad: bool = False
) -> Found:
    """A parquet file in the Hugging Face image convention; images follow the rules of `read_images`.

    Column `image` holds struct{bytes, path} or binary; an optional column `label` holds integers (class names from
    the schema's `huggingface` metadata) or strings. Raises InputError for all it cannot use.
    """
    name = shown(path)
    items, labels, classes = columns(path, name)
    if not items:
        raise InputError(f"{name}: has no rows")
    pixels, kept, notes = read_images(items, name, image_size, channels, skip_bad)
    per_split = {"train": None if labels is None else labels[kept]}
    if classes is None:
        classes = contiguous(per_split, notes)
    elif labels is not None and (labels[kept] < 0).any():
        notes.append(unknown_labels(int((labels[kept] < 0).sum())))
    names = [str(i) for i in kept]
    return Found(str(path.resolve()), Part(pixels, per_split["train"]), classes=classes, names=names, notes=notes)


class Rows(Sequence[Item]):
    """The encoded images of one column, row by row."""

    def __init__(self, path: Path, column: str, name: str):
        import pyarrow.parquet as pq

        self.path, self.column, self.name = path, column, name
        self.file = pq.ParquetFile(path, memory_map=True)
        meta = self.file.metadata
        groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
        self.ends = list(accumulate(group.num_rows for group in groups))
        chunks = [[group.column(i) for i in range(group.num_columns)] for group in groups]
        sizes = [
            sum(c.total_uncompressed_size for c in own if c.path_in_schema.split(".")[0] == column) for own in chunks
        ]
        largest = max(sizes, default=0)
        # one is held twice while it is read, and the one before it as well: some threads may still be there
        needed = (1 + len(groups[:2])) * largest
        check_memory(needed, name, "its row groups", "write it anew in smaller ones, with row_group_size=1000")
        self.most = max(2, min(GROUPS, available_memory() // max(1, largest) - 1))
        self.groups: OrderedDict[int, list[bytes | None]] = OrderedDict()
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not 0 <= i < len(self):
            raise IndexError(i)
        g = bisect.bisect_right(self.ends, i)
        with self.lock:
            blobs = self.groups.get(g)
            if blobs is None:
                blobs = self.groups[g] = self.read(g)
                while len(self.groups) > self.most:
                    self.groups.popitem(last=False)
            blob = blobs[i - (self.ends[g - 1] if g else 0)]
        return Item(f"row {i}", blob or b"")

    def read(self, g: int) -> list[bytes | None]:
        import pyarrow as pa

        try:
            chunks = self.file.read_row_group(g, [self.column]).column(self.column).chunks
            fields = [c.field("bytes") if pa.types.is_struct(c.type) else c for c in chunks]
            return [blob for field in fields for blob in field.to_pylist()]
        except MemoryError:
            raise
        except Exception as error:
            raise damaged(self.name, error) from None


def damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: cannot be read ({reason(error)}); it may be damaged or cut short")


def columns(path: Path, name: str) -> tuple[Rows, np.ndarray | None, list[str] | None]:
    """Encoded images, labels (N,) int64 and class names of a parquet file; InputError as for `read_parquet`."""
    import pyarrow as pa

    try:
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            image = next((c for c in IMAGES if c in schema.names), None)
            label = next((c for c in LABELS if c in schema.names), None)
            if image is None or not _holds_images(schema.field(image).type, pa):
                raise InputError(
                    f"{name}: found the columns {some([shown(f'{f.name} ({f.type})') for f in schema], 8)}; needs "
                    "'image' as struct{bytes, path} or binary, and for classes an integer column 'label'"
                )
            table = None if label is None else file.read([label])
        rows = Rows(path, image, name)
        if table is None or label is None:
            return rows, None, None
        return rows, *_label_column(table.column(label), label, schema.metadata or {}, name)
    except InputError:
        raise
    except Exception as error:  # pyarrow has its own exceptions, and damaged files reach most of them
        raise damaged(name, error) from None


def _holds_images(kind: Any, pa: Any) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_images(kind.field(index).type, pa)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _label_column(column: Any, label: str, metadata: dict, name: str) -> tuple[np.ndarray, list[str] | None]:
    if column.null_count:
        raise InputError(f"{name}: column '{label}' has {column.null_count:,} empty rows; label or remove them")
    values = column.to_numpy()
    if values.dtype == object and all(isinstance(v, str) for v in values):
        named: dict[str, np.ndarray | None] = {label: values}
        names = numbered(named, None, name)
        return named[label], names  # type: ignore[return-value]
    if values.dtype.kind == "f":
        raise InputError(f"{name}: column '{label}' is {values.dtype}; store classes as integers or texts")
    labels = labels_from_array(values, len(values), f"{name} column '{label}'")
    classes = _class_names(metadata, label)
    if classes is not None and len(labels) and not -1 <= labels.min() <= labels.max() < len(classes):
        raise InputError(
            f"{name}: column '{label}' has values from {labels.min()} to {labels.max()} for {len(classes)} class names"
        )
    return labels, classes


def _class_names(metadata: dict, label: str) -> list[str] | None:
    """Names from Hugging Face's schema metadata; None where there are none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [shown(n) for n in names] if isinstance(names, list) else None
