"""Networks with no opinion about losses. `encoder` and `decoder` build the ones that autoencoders choose by name."""

from __future__ import annotations

from typing import Literal

from torch import nn

from latentforge.nets import published
from latentforge.nets.conv import ConvCritic, ConvDecoder, ConvEncoder
from latentforge.nets.mlp import MLPCritic, MLPDecoder, MLPEncoder, normal_

Net = Literal["mlp", "conv", "article-001", "article-004"]


def encoder(net: str, image_shape, out_dim: int, hidden: tuple[int, ...], width: int, kernel: int) -> nn.Module:
    """(B, C, H, W) -> (B, out_dim)."""
    if net == "article-001":
        return published.TanhEncoder(image_shape, out_dim, hidden)
    if net == "article-004":
        return published.article_004_encoder(image_shape, out_dim)
    if net == "conv":
        return ConvEncoder(image_shape, out_dim, width, kernel)
    return MLPEncoder(image_shape, out_dim, hidden)


def decoder(net: str, in_dim: int, image_shape, hidden: tuple[int, ...], width: int, kernel: int) -> nn.Module:
    """(B, in_dim) -> (B, C, H, W), no activation at the end; `hidden` is given in the encoder's order."""
    if net == "article-004":
        return published.article_004_decoder(in_dim, image_shape)
    if net == "conv":
        return ConvDecoder(in_dim, image_shape, width, kernel)
    return MLPDecoder(in_dim, image_shape, hidden[::-1])


__all__ = [
    "ConvCritic", "ConvDecoder", "ConvEncoder", "MLPCritic", "MLPDecoder", "MLPEncoder", "Net",
    "decoder", "encoder", "normal_", "published",
]  # fmt: skip
