"""A duel of either dense or convolutional networks: what the GANs that leave this choice share."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from latentforge import nets
from latentforge.duel import Duel
from latentforge.nets.condition import Condition
from latentforge.parts.noise import Noise


class EitherDuel(Duel):
    """Critic and generator, dense or convolutional.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the noise vector
        noise: uniform in [-1, 1] or standard normal
        net: mlp (dense, any shape) or conv
        hidden: widths of the dense generator (mlp)
        critic_hidden: widths of the dense critic (mlp)
        width: channels next to the image in both convolutional networks, doubled at every halving (conv)
    """

    norms: ClassVar[tuple[bool, bool]] = (True, True)  # batch norm in the convolutional generator, critic

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 64,
        noise: Noise = "normal",
        net: Literal["mlp", "conv"] = "conv",
        hidden: tuple[int, ...] = (512, 512),
        critic_hidden: tuple[int, ...] = (512, 512),
        width: int = 32,
        _condition: Condition | None = None,
        _projection: bool = False,
        **rules,
    ):
        super().__init__(**rules)
        self.image_shape, self.latent_dim, self.noise = image_shape, latent_dim, noise
        for_generator, for_critic = self.norms
        self.batch_coupled = net == "conv" and (for_generator or for_critic)
        self.condition = _condition
        told = 0 if _condition is None else _condition.size
        c, h, w = image_shape
        seen = (c, h, w) if _condition is None or _projection else (c + 1, h, w)
        self.generator = self.with_dropout(
            nets.generator(net, latent_dim + told, image_shape, hidden, width, for_generator)
        )
        self.critic = self.with_rules(nets.critic(net, seen, critic_hidden, width, for_critic), told, _projection)

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.generator(self.tell(z, y))
