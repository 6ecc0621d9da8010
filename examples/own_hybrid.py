"""A hybrid of your own, whole: a VAE whose decoder also plays against a critic. It is trained, resumed, loaded,
measured and saved like any model of Latentforge.

    python examples/own_hybrid.py --data mnist-5k --out runs/crisp-vae

In another program `import own_hybrid` comes before `lf.load`: it registers the class. Prints what `lf.evaluate` finds.
"""

from __future__ import annotations

import argparse
import math

import torch.nn.functional as F
from torch import Tensor, nn

import latentforge as lf


@lf.register("crisp-vae", "hybrid", paper="after Larsen et al. 2016, arXiv:1512.09300")
class CrispVAE(lf.Game):
    """A VAE whose decoder also plays against a critic.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code
        hidden: width of the one hidden layer of each network
        weight: of the adversarial loss in the loss of the VAE, in nats
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int = 16, hidden: int = 256, weight: float = 5.0):
        super().__init__()
        self.image_shape, self.latent_dim, self.weight = image_shape, latent_dim, weight
        n, z = math.prod(image_shape), latent_dim
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, 2 * z))
        self.decoder = nn.Sequential(
            nn.Linear(z, hidden), nn.ReLU(), nn.Linear(hidden, n), nn.Unflatten(1, image_shape)
        )
        self.critic = nn.Sequential(nn.Flatten(), nn.Linear(n, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def players(self):
        return {"vae": [self.encoder, self.decoder], "critic": [self.critic]}

    def seats(self):
        return {"vae": lf.Seat(lr=1e-3), "critic": lf.Seat(lr=2e-4, betas=(0.5, 0.999))}

    def play(self, data, t):
        x = next(data).image  # (B, C, H, W) in [0, 1]
        fake = self.generate(t.randn(len(x), self.latent_dim))
        yield {"critic": F.softplus(-self.critic(x)).mean() + F.softplus(self.critic(fake.detach())).mean()}
        q = self.encode(x)
        nll = self.reconstruction_nll(q.sample(t.randn(len(x), self.latent_dim)), x)  # (B,) nats, -log p(x | z)
        verdict = F.softplus(-self.critic(fake)).mean()
        t.log("kl_nats", q.kl())
        t.log("generator", verdict)
        yield {"vae": (nll + q.kl()).mean() + self.weight * verdict}

    def encode(self, image: Tensor, y: Tensor | None = None) -> lf.Diagonal:
        return lf.Diagonal(*self.encoder(image.to(self.device)).chunk(2, 1))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.decoder(z).sigmoid()

    def reconstruction_nll(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").flatten(1).sum(1)

    def evaluate(self, batch):
        q = self.encode(batch.image)
        mse = (self.generate(q.mean) - batch.image).square().flatten(1).mean(1)
        return {"reconstruction_mse": mse, "kl_nats": q.kl()}


def main(arguments: list[str] | None = None) -> lf.Game:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--out", default="runs/crisp-vae", help="run directory; the model alone goes to OUT-model")
    parser.add_argument("--examples", type=int, default=400_000, help="images seen in training, half of them resumed")
    parser.add_argument("--features", default="auto", help="feature space for comparing samples")
    options = parser.parse_args(arguments)
    lf.fit("crisp-vae", options.data, out=options.out, examples=options.examples // 2)
    lf.resume(options.out, examples=options.examples)  # on to a larger total; after a crash, lf.resume(options.out)
    model = lf.load(options.out)
    for row in lf.evaluate(model, options.data, features=options.features):
        print(f"{row['measure']} {row['value']} (trivial baseline: {row.get('baseline')})")
    model.save_pretrained(f"{options.out}-model")
    return lf.load(f"{options.out}-model")


if __name__ == "__main__":
    main()
