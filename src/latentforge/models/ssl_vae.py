"""A VAE that learns to classify from few labels: the class is a latent variable, seen in some images.

Kingma, Rezende, Mohamed & Welling, "Semi-supervised Learning with Deep Generative Models", NeurIPS 2014, arXiv:1406.5298. `m2`
is their model M2 with the objective of equations 6 to 9, summed over all classes where the label is unknown; `m1+m2` puts it on
the codes of a VAE (M1) trained before, for a share of the budget.

Departures: q(y | x) is a convolutional network, or a dense one with noise and weight norm, and of unlabelled images kept
smooth (after Miyato et al. 2018, arXiv:1704.03976, see `parts/smooth.py`; here around a shifted copy as well), certain,
and in the mean as the labels are (`--smooth`, `--shift`, `--certain`, `--balance`; all 0 is the paper's objective): the
bound alone sorts images by whatever explains most pixels. The whole bound is weighed against the mean of -log q(y | x), where
the paper weighs that mean beside bounds summed over all N images (equation 9): their alpha is N / `generative`, and their .1 N
is `--generative 10`. The bound of equation 7 is taken of all images, labelled ones among them, and of half of a batch. M2 on
codes sees a sample of q(z1 | x) anew each time. Classes and samples come from a moving average of the weights (`--ema 0`
for none).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentforge.data.batch import Images, at_once, in_parts
from latentforge.game import Seat, Term, evaluating
from latentforge.nets import MLPDecoder, MLPEncoder
from latentforge.nets.classifier import ClassedEncoder, Classifier
from latentforge.nets.condition import Label
from latentforge.parts.gaussian import Diagonal
from latentforge.parts.likelihood import bernoulli_nll, gaussian_nll
from latentforge.parts.likeness import mean_squared
from latentforge.registry import register
from latentforge.semi import SemiSupervised


@register("ssl-vae")
class SSLVAE(SemiSupervised):
    """Classifier q(y | x), encoder q(z | x, y) and decoder p(x | z, y), one player; M1 before it is another.

    Args:
        image_shape: (C, H, W) of the images
        latent_dim: size of the code z beside the class
        form: m2 (on images) or m1+m2 (on the codes of a VAE)
        net: the classifier's on images: mlp (dense, any shape) or conv
        hidden: widths of the dense encoders; decoders mirror them
        classifier_hidden: widths of the dense classifier; the convolutional one has the last of them
        width: channels of the convolutional classifier's first layer, doubled at every halving (conv)
        layer_noise: standard deviation of the noise on the input of each of the classifier's hidden layers
        input_noise: standard deviation of the noise on its input
        generative: weight of the bound on log p(x, y) or log p(x), against 1 for -log q(y|x)
        first_dim: size of M1's code
        share: share of the budget that trains M1
    """

    batch_coupled = True  # the classifier's noise

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 50,
        form: Literal["m2", "m1+m2"] = "m2",
        net: Literal["mlp", "conv"] = "conv",
        hidden: tuple[int, ...] = (500,),
        classifier_hidden: tuple[int, ...] = (1000, 500, 250, 250, 250),
        width: int = 16,
        layer_noise: float = 0.5,
        input_noise: float = 0.3,
        generative: float = 0.01,
        first_dim: int = 50,
        share: float = 0.4,
        **options,
    ):
        super().__init__(**options)
        if not 0 <= share < 1:
            raise ValueError(f"--share {share:g}: give a share of the budget, from 0 to below 1")
        self.image_shape, self.latent_dim, self.form, self.generative = image_shape, latent_dim, form, generative
        k, size, shape = self.num_classes, math.prod(image_shape), image_shape
        self.condition = Label(k)
        self.condition.drop = 1.0  # nothing is told: the class is inferred
        self.first, self.first_dim = form == "m1+m2", first_dim
        if self.first:
            self.begins = (share,)
            self.first_encoder = MLPEncoder(image_shape, 2 * first_dim, (*hidden, *hidden))
            self.first_decoder = MLPDecoder(first_dim, image_shape, (*hidden, *hidden))
            size, shape, net, input_noise = first_dim, (first_dim, 1, 1), "mlp", 0.0
        self.classifier = Classifier(net, shape, k, classifier_hidden, width, layer_noise, input_noise)
        self.encoder = ClassedEncoder(size, k, 2 * latent_dim, hidden)
        self.decoder = MLPDecoder(latent_dim + k, (2 * first_dim, 1, 1) if self.first else image_shape, hidden[::-1])

    def players(self):
        m2: dict[str, list[nn.Module]] = {"vae": [self.classifier, self.encoder, self.decoder]}
        return {"first": [self.first_encoder, self.first_decoder], **m2} if self.first else m2

    def seats(self):
        begin = self.begins[0] if self.first else 0.0
        spans = {"first": (0.0, begin), "vae": (begin, 1.0)}
        return {k: Seat(lr=1e-3, span=spans[k]) for k in self.players()}

    def play(self, data, t):
        x = next(data).image  # (B, C, H, W), labels unknown
        if self.first and t.stage == 0:
            q = Diagonal(*self.first_encoder(x).chunk(2, 1))
            z = q.sample(t.randn(*q.mean.shape))
            loss = bernoulli_nll(self.first_decoder(z), x).mean() + q.kl().mean()
            t.log("first_nats", loss)
            yield {"first": loss}
            return
        half = -(-len(x) // 2)
        known, y = self.draw_known(half, t)
        with torch.no_grad():
            both = torch.cat([known, x])
            v = self.modelled(both, t.randn(len(both), self.first_dim) if self.first else None)
        labelled, logits = self.classifier(v).split([half, len(x)])
        cost = self.labelled_cost(labelled, y, t) + self.unlabelled_cost(x, logits, t)
        if self.generative:  # on half of the images: it costs as many passes as there are classes
            v, log_q = v[: 2 * half], logits[:half].float().log_softmax(1)
            told, untold = self.bound(v, t.randn(len(v), self.latent_dim)).split([half, len(v) - half])
            untold = (log_q.exp() * (untold + log_q)).sum(1)
            t.log("loss", untold)
            told = told.gather(1, y[:, None])
            cost = cost + self.generative * (untold.mean() + self.known_share * told.mean())
        yield {"vae": cost}

    def modelled(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """What M2 models: the images, or M1's codes (B, Z1, 1, 1), means without noise."""
        if not self.first:
            return x
        q = Diagonal(*self.first_encoder(x).chunk(2, 1))
        return (q.mean if noise is None else q.sample(noise))[:, :, None, None]

    def bound(self, v: Tensor, noise: Tensor) -> Tensor:
        """L(x, y) of equation 6 for every class, (B, K) nats, with one z of noise (B, Z) each; p(y) is uniform."""
        b, k = len(v), self.num_classes
        classes = torch.eye(k, device=v.device)
        mean, log_variance = self.encoder(v).chunk(2, -1)  # (B, K, Z)
        q = Diagonal(mean.flatten(0, 1), log_variance.flatten(0, 1))
        z = q.sample(noise.repeat_interleave(k, 0))
        nll = self.nll(torch.cat([z, classes.repeat(b, 1)], 1), v.repeat_interleave(k, 0))
        return (nll + q.kl()).view(b, k) + math.log(k)

    def nll(self, code: Tensor, v: Tensor) -> Tensor:
        """-log p(v | z, y), (B,) nats, of codes with one-hot classes (B, Z + K)."""
        out = self.decoder(code)
        if not self.first:
            return bernoulli_nll(out, v)
        mean, raw = out.float().chunk(2, 1)
        return gaussian_nll(mean, v, F.softplus(raw + 1) - 3)  # deviations above .05: codes vary by about 1

    def class_logits(self, x: Tensor) -> Tensor:
        return self.classifier(self.modelled(x))

    # -- the model's public face ---------------------------------------------------------------------------------------
    def class_of(self, image: Tensor, y: Tensor | None) -> Tensor:
        """y with the likeliest class where none is told (None, or -1)."""
        found = self.class_logits(image).argmax(1)
        return found if y is None else torch.where(y < 0, found, y)

    def encode(self, image: Tensor, y: Tensor | None = None) -> Diagonal:
        image = image.to(self.device)
        y = self.class_of(image, None if y is None else y.to(self.device))
        return Diagonal(*self.encoder(self.modelled(image), y).chunk(2, -1))

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Without y, or where it is -1, the mean image over the classes as frequent as in training."""
        if y is None or bool((y < 0).any()):
            every = [self.generate(z, torch.full((len(z),), k, device=z.device)) for k in range(self.num_classes)]
            mean = torch.einsum("k,kbchw->bchw", self.known_classes, torch.stack(every))
            return (
                mean if y is None else torch.where((y < 0)[:, None, None, None], mean, self.generate(z, y.clamp(min=0)))
            )
        out = self.decoder(self.tell(z, y))
        return torch.sigmoid(self.first_decoder(out[:, : self.first_dim, 0, 0]) if self.first else out).float()

    def reconstruct(self, image: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode the posterior mean under the class that is told, or the likeliest."""
        with torch.no_grad(), evaluating(self):
            size = at_once(self.image_shape, 256)
            pairs = in_parts(image, None if y is None else y.to(self.device), size)
            y = torch.cat([self.class_of(x.to(self.device), k) for x, k in pairs])
        return super().reconstruct(image, y)

    def codes_of(self, data, rows=None):
        """Codes and, as labels are few, the likeliest classes."""
        codes, _ = super().codes_of(data, rows)
        return codes, torch.cat([self.classify(Images(b.image)).argmax(1).cpu() for b in data.batches(rows=rows)])

    def labels_of(self, batch, t=None):
        """Nothing: an image's class is inferred, its label is for measuring."""
        return None

    def told_with(self, batch):
        return self.classify(Images(batch.image)).argmax(1)

    def evaluate(self, batch):
        x = batch.image
        mse = mean_squared(self.generate(self.encode(x).mean, self.class_of(x, None)), x)
        return self.class_measures(batch) | {"reconstruction_mse": mse}

    def objective(self):
        m2 = [
            *self.class_terms("vae"),
            Term(
                "vae",
                "share labelled * L(x,y), L(x,y) = -log p(x|z,y) + KL(q(z|x,y) || N(0, I)) - log p(y)",
                self.generative,
            ),
            Term("vae", "sum_y q(y|x) (L(x,y) + log q(y|x)), x unlabelled", self.generative),
        ]
        return [[Term("first", "-log p(x|z1) + KL(q(z1|x) || N(0, I))")], m2] if self.first else [m2]
