"""Codes as whole numbers: uniform scalar quantisation, as fine for every number of a code as the decoder takes notice of it.

For small errors a step of d adds s^2 d^2 / 12 to the squared error, s being the decoder's change per unit of the number, and
takes log2(d) bits off each number; so at a given rate the error is least where s d is the same for all (Gersho & Gray 1992,
"Vector Quantization and Signal Compression", chapter 8). One `step` then says it all: the root mean square change of pixels,
in units of their range, by one step of any number. A number that the decoder ignores is always rounded to the same value, which
costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.tasks.coding import Packed

PROBES = 32  # codes at which the decoder's sensitivity is measured
EIGHTH = 8  # steps are kept to an eighth of a power of two


def sensitivity(model: Game, codes: Tensor, labels: Tensor | None = None) -> np.ndarray:
    """(Z,) root mean square change of the pixels of decoded images per unit of each number of the code: differences of images
    decoded at up to `PROBES` of the codes (N, Z) and a tenth of a standard deviation beside them."""
    pick = torch.linspace(0, len(codes) - 1, min(PROBES, len(codes))).long()
    z, y = codes[pick], None if labels is None else labels[pick]
    spread = codes.std(0, correction=0)
    shift = 0.1 * spread + 1e-3 * codes.square().mean().sqrt() + 1e-6
    start, out = model.decode(z, y), []
    for j in range(codes.shape[1]):
        beside = z.clone()
        beside[:, j] += shift[j]
        out.append(float((model.decode(beside, y) - start).cpu().double().square().mean().sqrt() / shift[j].cpu()))
    return np.array(out)


def quantise(codes: np.ndarray, sensitive: np.ndarray, step: float) -> dict[str, Any]:
    """Codes (N, Z) as whole numbers, and what they stand for, as in `Packed`; the mean of each column lies in the middle of a
    step."""
    unit, exponents = steps_of(sensitive, step)
    width = widths(unit, exponents)
    middle = codes.mean(0) / width
    phases = np.clip(np.rint(256 * (middle - np.rint(middle))), -128, 127).astype(np.int8)
    numbers = np.rint(codes / width - phases / 256)
    if np.abs(numbers).max() >= 1 << 30:
        raise InputError(f"the step {step:g} is too small for codes as large as these; give a larger one.")
    return {"step": step, "unit": unit, "exponents": exponents, "phases": phases, "numbers": numbers.astype(np.int32)}


def steps_of(sensitive: np.ndarray, step: float) -> tuple[float, np.ndarray]:
    """A unit (as float32 has it) and an exponent (Z,) for every number: its step is unit * 2^(exponent / 8), about step /
    sensitivity. The most sensitive one sets the unit; dead ones get the widest step there is."""
    live = sensitive > max(1e-12, 1e-6 * sensitive.max())
    if not live.any():
        return float(np.float32(step)), np.zeros(len(sensitive), np.int8)
    wanted = np.log2(step / np.where(live, sensitive, 1.0))
    unit = float(np.float32(2.0 ** (wanted[live].min() + 128 / EIGHTH)))  # so that the narrowest step has exponent -128
    exponents = np.where(live, np.rint(EIGHTH * (wanted - np.log2(unit))), 127)
    return unit, np.clip(exponents, -128, 127).astype(np.int8)


def widths(unit: float, exponents: np.ndarray) -> np.ndarray:
    """(Z,) the step of every number."""
    return unit * 2.0 ** (exponents.astype(np.float64) / EIGHTH)


def dequantise(p: Packed) -> np.ndarray:
    """The codes (N, Z) float32 that stand for the numbers of a file."""
    return (widths(p.unit, p.exponents) * (p.numbers + p.phases / 256)).astype(np.float32)
