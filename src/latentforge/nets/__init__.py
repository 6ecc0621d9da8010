"""Networks with no opinion about losses. `encoder` and `decoder` build the ones that autoencoders choose by name."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from latentforge.nets import published
from latentforge.nets.conv import ConvCritic, ConvDecoder, ConvEncoder
from latentforge.nets.mlp import MLPCritic, MLPDecoder, MLPEncoder, he_, normal_

Net = Literal["mlp", "conv", "resnet", "article-001", "article-004"]
BLOCKS = {"conv": 0, "resnet": 2}  # residual blocks at each size of image


def encoder(net: str, image_shape, out_dim: int, hidden: tuple[int, ...], width: int, kernel: int) -> nn.Module:
    """(B, C, H, W) -> (B, out_dim)."""
    if net == "article-001":
        return published.TanhEncoder(image_shape, out_dim, hidden)
    if net == "article-004":
        return published.article_004_encoder(image_shape, out_dim)
    if net in ("conv", "resnet"):
        return ConvEncoder(image_shape, out_dim, width, kernel, blocks=BLOCKS[net])
    return MLPEncoder(image_shape, out_dim, hidden)


def decoder(
    net: str, in_dim: int, image_shape, hidden: tuple[int, ...], width: int, kernel: int, wide: tuple[int, ...] = (),
    norm: bool = False,
) -> nn.Module:  # fmt: skip
    """(B, in_dim) -> (B, C, H, W), no activation at the end; article-001 has the dense one. `hidden` is given in the
    encoder's order, `wide` are the hidden dense layers before convolutions, and `norm` is batch norm between these."""
    if net == "article-004":
        return published.article_004_decoder(in_dim, image_shape)
    if net in ("conv", "resnet"):
        return ConvDecoder(in_dim, image_shape, width, kernel, norm, wide, BLOCKS[net])
    return MLPDecoder(in_dim, image_shape, hidden[::-1])


def generator(net: str, in_dim: int, image_shape, hidden: tuple[int, ...], width: int, norm: bool) -> nn.Module:
    """(B, in_dim) -> (B, C, H, W) in [-1, 1]: mlp or conv, with batch norm (of convolutions) or He's initialisation."""
    body = (
        MLPDecoder(in_dim, image_shape, hidden) if net == "mlp" else ConvDecoder(in_dim, image_shape, width, norm=norm)
    )
    return nn.Sequential(initialised(body, net, norm), nn.Tanh())


def critic(net: str, image_shape, hidden: tuple[int, ...], width: int, norm: bool) -> Any:
    """(B, C, H, W) -> logits (B,): mlp or conv, with batch norm (of convolutions) or He's initialisation."""
    body = MLPCritic(image_shape, hidden) if net == "mlp" else ConvCritic(image_shape, width, norm=norm)
    return initialised(body, net, norm)


def initialised(module: nn.Module, net: str, norm: bool) -> nn.Module:
    """With batch norm, DCGAN's weights; without, He's, so that signals keep their size through many layers. Families that keep
    torch's own leave this out."""
    return normal_(module) if norm and net != "mlp" else he_(module)


__all__ = [
    "ConvCritic", "ConvDecoder", "ConvEncoder", "MLPCritic", "MLPDecoder", "MLPEncoder", "Net",
    "critic", "decoder", "encoder", "generator", "he_", "normal_", "published",
]  # fmt: skip
