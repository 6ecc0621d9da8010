"""The most this machine was seen to do, in torch, in float32 and, where it has it, bfloat16: GFLOP/s of several shapes."""

from __future__ import annotations

import json
import time

import torch
import torch.nn.functional as F

from latentforge.saving import computes_in_bf16


def rate(work, flops: float) -> float:
    """Median GFLOP/s of seven goes."""
    work()
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return flops / sorted(times)[3] / 1e9


def rates(kind: torch.dtype) -> dict[str, float]:
    a = torch.randn(3072, 3072).to(kind)
    x = torch.randn(64, 256, 28, 28).to(kind).to(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3).to(kind).to(memory_format=torch.channels_last)
    y = torch.randn(64, 256, 7, 7).to(kind).to(memory_format=torch.channels_last)
    v = torch.randn(128, 256, 5, 5).to(kind).to(memory_format=torch.channels_last)
    with torch.no_grad():
        return {
            "matrix product of 3072": rate(lambda: a @ a, 2 * 3072**3),
            "convolution 3x3 of 256 channels": rate(lambda: F.conv2d(x, w, padding=1), 2 * 64 * 784 * 9 * 256**2),
            "convolution 5x5 of 256 to 128 channels": rate(
                lambda: F.conv2d(y, v, padding=2), 2 * 64 * 49 * 25 * 256 * 128
            ),
        }


if __name__ == "__main__":
    kinds = (torch.float32, torch.bfloat16) if computes_in_bf16() else (torch.float32,)
    print(json.dumps({str(k).removeprefix("torch."): rates(k) for k in kinds}))
