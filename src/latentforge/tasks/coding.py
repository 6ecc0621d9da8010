"""Whole numbers in a file: the format behind `compress`, and its entropy coder.

Each column of numbers has a range coder's table of its own (package `constriction`), learned while coding: rows come in
blocks, and a block is coded with the counts of those before it, plus one half for every value between the column's least and
greatest (Krichevsky & Trofimov 1981, doi:10.1109/TIT.1981.1056331). So no table is stored, and coder and decoder derive the
same ones: what they are made of are whole numbers below 2^53, which floating-point numbers hold exactly on every machine.

A file is, in this order and little-endian: what `HEAD` says; the model's name; of every column its exponent, its phase, its
least number and how far it reaches above; the coded numbers; a CRC-32 of the numbers, one of all bytes before.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentforge.data.decode import reason
from latentforge.data.room import check_memory
from latentforge.errors import InputError, shown

# magic, version, fingerprint of the model, C, H, W, images, numbers per code, classes (0: no labels), step, unit, name's length
HEAD = struct.Struct("<4sB8sHHHIIIffB")
TAIL = struct.Struct("<II")
MAGIC, VERSION = b"LFZ\n", 2  # 1 is the same, but for what the fingerprint is of: `compress.fingerprint`
FIRST, GROWTH = 8, 4  # rows of the first block; later ones are as long as a fourth of the rows before
MOST = 1 << 16  # values a column may span


@dataclass(frozen=True)
class Packed:
    """What a file holds. A code is unit * 2^(exponent / 8) * (number + phase / 256)."""

    model: str  # its name
    fingerprint: bytes  # of its weights, 8 bytes
    image_shape: tuple[int, int, int]
    step: float  # as it was asked for
    unit: float
    exponents: np.ndarray  # (Z,) int8
    phases: np.ndarray  # (Z,) int8
    numbers: np.ndarray  # (N, Z) int32
    labels: np.ndarray | None = None  # (N,) int64, -1 for unknown
    classes: int = 0


def constriction() -> Any:
    """The package; InputError where it is not installed."""
    try:
        import constriction as package
    except ImportError:
        raise InputError("compress and decompress need the extra: pip install 'latentforge[codec]'.") from None
    return package


def pack(p: Packed) -> bytes:
    """The file's bytes. InputError where a column spans too many values."""
    name = p.model.encode()
    n, z = p.numbers.shape
    columns = p.numbers if p.labels is None else np.column_stack([p.numbers, p.labels]).astype(np.int32)
    low, high = (columns.min(0), columns.max(0)) if n else (np.zeros(columns.shape[1], np.int32),) * 2
    if n and p.labels is not None and (span := int(np.ptp(p.labels)) + 1) > MOST:
        raise InputError(
            f"the images' classes take {span:,} numbers; a file holds {MOST:,} at most; compress fewer classes at a time."
        )
    if n and int((high.astype(np.int64) - low).max()) >= MOST:
        raise InputError(
            f"the step {p.step:g} is too small: numbers would take more than {MOST:,} values; give a larger one."
        )
    out = bytearray(
        HEAD.pack(MAGIC, VERSION, p.fingerprint, *p.image_shape, n, z, p.classes, p.step, p.unit, len(name))
    )
    out += name + p.exponents.astype(np.int8).tobytes() + p.phases.astype(np.int8).tobytes()
    for least, most in zip(low.tolist(), high.tolist(), strict=True):
        out += varint(2 * least if least >= 0 else -2 * least - 1) + varint(most - least)
    out += encode(columns - low, high - low + 1)
    return bytes(out + sealed(out, columns))


def sealed(out: bytes | bytearray, columns: np.ndarray) -> bytes:
    """The two checksums a file ends with."""
    crc = struct.pack("<I", zlib.crc32(np.ascontiguousarray(columns, "<i4").tobytes()))
    return crc + struct.pack("<I", zlib.crc32(bytes(out) + crc))


def opened(data: bytes, where: str) -> tuple[bytes, str]:
    """The fingerprint and the name of the model that a file's bytes are of. InputError where they are no such file, or not
    what was written."""
    if data[: len(MAGIC)] != MAGIC:
        raise InputError(f"{where} was not written by 'latentforge compress'; give a file that was.")
    if len(data) > len(MAGIC) and data[len(MAGIC)] > VERSION:
        raise InputError(f"{where} was written by a newer Latentforge; upgrade to read it.")
    if len(data) < HEAD.size + TAIL.size or zlib.crc32(data[:-4]) != TAIL.unpack(data[-TAIL.size :])[1]:
        raise InputError(f"{where} is damaged: its checksum is wrong; copy or compress it again.")
    _, _, fingerprint, *_, length = HEAD.unpack_from(data)
    return fingerprint, shown(data[HEAD.size : HEAD.size + length].decode(errors="replace"))


def unpack(data: bytes, where: str) -> Packed:
    """What is in a file's bytes. InputError as for `opened`, where they do not fit into memory, and where a right checksum
    stands below wrong numbers, which somebody has made."""
    fingerprint, name = opened(data, where)
    try:
        return unpacked(data, where, fingerprint, name)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{where} is damaged ({reason(error)}); copy or compress it again.") from None


def unpacked(data: bytes, where: str, fingerprint: bytes, name: str) -> Packed:
    _, _, _, c, h, w, n, z, classes, step, unit, length = HEAD.unpack_from(data)
    at = HEAD.size + length
    exponents, phases = np.frombuffer(data, np.int8, 2 * z, at).reshape(2, z)
    at += 2 * z
    low, reach = [], []
    for _ in range(z + bool(classes)):
        least, at = read_varint(data, at)
        low.append(least >> 1 if least % 2 == 0 else -(least + 1 >> 1))
        more, at = read_varint(data, at)
        if more >= MOST:
            raise ValueError(f"a number with more than {MOST:,} values")
        reach.append(more)
    lowest = np.array(low, np.int32)
    check_memory(8 * (n * len(reach) + sum(reach)), where, "its numbers", "open it on a larger machine")
    wrong = f"{where}: the numbers in it come out wrong; this version of constriction codes in another way."
    try:
        columns = decode(data[at : -TAIL.size], n, np.array(reach, np.int64) + 1) + lowest
    except (InputError, MemoryError):
        raise
    except Exception:  # what constriction says of words that it would not have written
        raise InputError(wrong) from None
    if zlib.crc32(np.ascontiguousarray(columns, "<i4").tobytes()) != TAIL.unpack(data[-TAIL.size :])[0]:
        raise InputError(wrong)
    labels = columns[:, z].astype(np.int64) if classes else None
    return Packed(name, fingerprint, (c, h, w), step, unit, exponents, phases, columns[:, :z], labels, classes)


# -- the coder ---------------------------------------------------------------------------------------------------------
def encode(numbers: np.ndarray, sizes: np.ndarray) -> bytes:
    """Bytes of numbers (N, D), column d from 0 to sizes[d] - 1."""
    coder = constriction().stream.queue.RangeEncoder()

    def visit(rows: slice, column: int, table: Any) -> np.ndarray:
        values = np.ascontiguousarray(numbers[rows, column], np.int32)
        coder.encode(values, table)
        return values

    walk(len(numbers), sizes, visit)
    return coder.get_compressed().astype("<u4").tobytes()


def decode(data: bytes, n: int, sizes: np.ndarray) -> np.ndarray:
    """The numbers (n, D) int32 of `encode`'s bytes."""
    coder = constriction().stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    return walk(n, sizes, lambda rows, column, table: coder.decode(table, rows.stop - rows.start))


def walk(n: int, sizes: np.ndarray, visit: Callable[[slice, int, Any], np.ndarray]) -> np.ndarray:
    """Go through n rows block by block and column by column. `visit` gets a block's rows, the column and its table, and says
    which numbers stand there; a column of one value is not visited. Returns all numbers (n, D) int32."""
    categorical = constriction().stream.model.Categorical
    out = np.zeros((n, len(sizes)), np.int32)
    counts = [np.ones(size) for size in sizes.tolist()]  # in halves
    for rows in blocks(n):
        for column in np.flatnonzero(sizes > 1).tolist():
            values = visit(rows, column, categorical(counts[column], perfect=False))
            out[rows, column] = values
            counts[column] += 2.0 * np.bincount(values, minlength=len(counts[column]))
    return out


def blocks(n: int) -> Iterator[slice]:
    """Blocks of rows that cover n, in order."""
    start = 0
    while start < n:
        stop = min(n, start + max(FIRST, start // GROWTH))
        yield slice(start, stop)
        start = stop


def varint(value: int) -> bytes:
    """A number from 0 on in as few bytes as it needs, seven bits in each, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
