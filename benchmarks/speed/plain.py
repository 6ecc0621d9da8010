"""The loop that scripts use: eager PyTorch, a DataLoader over the images, Adam, whole backward passes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from clockwork import BATCH, LATENT, RATE, contest, digits, options
from networks import WORKLOADS
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

bce = F.binary_cross_entropy_with_logits


def forever(loader: DataLoader):
    while True:
        for (batch,) in loader:
            yield batch


def drawn(encoder: nn.Module, x):
    mean, log_variance = encoder(x).chunk(2, 1)
    kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp(), kl


def vae(nets: dict[str, nn.Module]):
    optimizer = torch.optim.Adam([p for net in nets.values() for p in net.parameters()], RATE)

    def step(x):
        z, kl = drawn(nets["encoder"], x)
        loss = bce(nets["decoder"](z), x, reduction="sum") / len(x) + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def dcgan(nets: dict[str, nn.Module]):
    generator, critic = nets["generator"], nets["critic"]
    of_generator, of_critic = (torch.optim.Adam(net.parameters(), RATE) for net in (generator, critic))

    def step(x):
        x = 2 * x - 1
        fake = generator(torch.rand(len(x), 100) * 2 - 1)
        real, made = critic(x), critic(fake.detach())
        loss = bce(real, torch.ones_like(real)) + bce(made, torch.zeros_like(made))
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
        made = critic(fake)
        fool = bce(made, torch.ones_like(made))
        of_generator.zero_grad()
        fool.backward()
        of_generator.step()
        return loss.item()

    return step


def vae_gan(nets: dict[str, nn.Module]):
    """Algorithm 1 of Larsen et al. 2016 with samples of the prior as fakes: one forward pass, and a whole backward pass for
    each player's own loss."""
    optimizers = {k: torch.optim.Adam(net.parameters(), RATE) for k, net in nets.items()}

    def step(x):
        z, kl = drawn(nets["encoder"], x)
        rebuilt, sampled = (torch.sigmoid(nets["decoder"](c)) for c in (z, torch.randn(len(x), LATENT)))
        (real, f), (_, g), (made, _) = (nets["critic"](images) for images in (x, rebuilt, sampled))
        likeness = 0.5 * (f - g).square().sum((1, 2, 3)).mean()
        one, zero = torch.ones_like(real), torch.zeros_like(real)
        losses = {
            "encoder": kl + likeness,
            "decoder": 0.1 * likeness + bce(made, one),
            "critic": bce(real, one) + bce(made, zero),
        }
        gradients = {}
        for player, loss in losses.items():
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            loss.backward(retain_graph=True)
            gradients[player] = [p.grad for p in nets[player].parameters()]
        for player, optimizer in optimizers.items():
            for p, grad in zip(nets[player].parameters(), gradients[player], strict=True):
                p.grad = grad
            optimizer.step()
        return losses["critic"].item()

    return step


STEPS = {"conv-vae": vae, "dense-vae": vae, "dcgan": dcgan, "vae-gan": vae_gan}


def main() -> None:
    o = options()
    torch.manual_seed(0)
    images = torch.from_numpy(digits(o.data))[:, None]
    loader = forever(DataLoader(TensorDataset(images), BATCH, shuffle=True, drop_last=True))
    step = STEPS[o.workload](WORKLOADS[o.workload]())
    contest(lambda: step(next(loader)), o, ("torch", "numpy"))


if __name__ == "__main__":
    main()
