"""torch's convolutions, computed faster on the processor in float32; elsewhere they are torch's own.

oneDNN takes a third longer over a layer's gradients when it has those of a bias to sum, so the bias is added afterwards, in
place. And it handles output channels sixteen at a time, which a grey image wastes: there the transposed convolution is one
matrix product, whose columns are added up shifted against each other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def left_to_torch(layer: nn.Module, x: Tensor) -> bool:
    """Whether it is for torch to compute the layer on x; always inside `torch.func`."""
    simple = layer.groups == 1 and layer.dilation == (1, 1) and not isinstance(layer.padding, str)
    half = torch.is_autocast_enabled("cpu") or x.dtype != torch.float32
    if torch._C._are_functorch_transforms_active():  # they take no autograd.Function of this kind
        return True
    return x.device.type != "cpu" or half or x.dim() != 4 or not simple or layer.padding_mode != "zeros"


def biased(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y.add_(bias.view(-1, 1, 1))


class Conv2d(nn.Conv2d):
    """torch's, with its arguments."""

    def forward(self, x: Tensor) -> Tensor:
        if left_to_torch(self, x):
            return super().forward(x)
        return biased(F.conv2d(x, self.weight, None, self.stride, self.padding), self.bias)  # type: ignore[arg-type]


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's, with its arguments."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if left_to_torch(self, x) or output_size is not None:
            return super().forward(x, output_size)
        where = (self.stride, self.padding, self.output_padding)
        if self.out_channels == 1:  # with two or three the product was slower about as often as faster
            return biased(Scatter.apply(x, self.weight, *where), self.bias)
        return biased(F.conv_transpose2d(x, self.weight, None, *where), self.bias)  # type: ignore[arg-type]


class Scatter(torch.autograd.Function):
    """The transposed convolution of x (B, I, H, W) to one channel with weights (I, 1, k, l), no bias."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding, extra):
        ctx.save_for_backward(x, weight)
        ctx.where = stride, padding, extra
        (inp, _, k, m), (b, _, h, w) = weight.shape, x.shape
        columns = weight.reshape(inp, -1).t() @ x.permute(0, 2, 3, 1).reshape(-1, inp).t()  # (k l, B H W)
        columns = columns.view(k, m, b, h, w)
        high, wide = ((n - 1) * s + n_k + e for n, s, n_k, e in zip((h, w), stride, (k, m), extra, strict=True))
        y = x.new_zeros(b, high, wide)
        for i in range(k):
            for j in range(m):
                y[:, i : i + stride[0] * h : stride[0], j : j + stride[1] * w : stride[1]] += columns[i, j]
        inside = y[:, padding[0] : high - padding[0], padding[1] : wide - padding[1]]
        return inside.unsqueeze(1).clone(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx, g):
        (x, weight), (stride, padding, extra) = ctx.saved_tensors, ctx.where
        asked = (*ctx.needs_input_grad[:2], False)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            g, x, weight, None, stride, padding, (1, 1), True, extra, 1, asked
        )
        return dx, dw, None, None, None
