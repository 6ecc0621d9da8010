"""The duel: what every model with a critic shares. A critic judges, a generator makes what it judges, and both follow
the rules below, which are constructor arguments of every GAN and hybrid. A family writes its networks and, where it is
not this one, its round.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from latentforge.data.batch import Batch
from latentforge.game import Game, Term, uncompiled
from latentforge.nets.condition import ConditionalCritic, last_linear
from latentforge.nets.dropout import Dropout
from latentforge.parts.adversarial import PROBABILISTIC, Loss, critic_loss, generator_loss, reversal
from latentforge.parts.augment import FEW, Augment, augment
from latentforge.parts.minibatch import MinibatchDiscrimination
from latentforge.parts.noise import Noise, draw_noise
from latentforge.parts.penalties import squared_gradient, unit_gradient

# The losses as `explain` writes them: the critic's of real and of generated examples, the generator's, and that of who
# makes the real examples and wants them called generated. D is the critic's logit, s the sigmoid.
CRITIC_REAL = {
    "nonsaturating": "-log s(D({real}))",
    "minimax": "-log s(D({real}))",
    "least-squares": "(D({real}) - 1)^2",
    "hinge": "max(0, 1 - D({real}))",
    "wasserstein": "-D({real})",
}
CRITIC_FAKE = {
    "nonsaturating": "-log(1 - s(D({fake})))",
    "minimax": "-log(1 - s(D({fake})))",
    "least-squares": "D({fake})^2",
    "hinge": "max(0, 1 + D({fake}))",
    "wasserstein": "D({fake})",
    "relativistic": "softplus(D({fake}) - D({real}))",
}
ENCODER = {
    "nonsaturating": "-log(1 - s(D({real})))",
    "minimax": "log s(D({real}))",
    "least-squares": "D({real})^2",
    "hinge": "D({real})",
    "wasserstein": "D({real})",
}
GENERATOR = {
    "nonsaturating": "-log s(D({fake}))",
    "minimax": "log(1 - s(D({fake})))",
    "least-squares": "(D({fake}) - 1)^2",
    "hinge": "-D({fake})",
    "wasserstein": "-D({fake})",
    "relativistic": "softplus(D({real}) - D({fake}))",
}


class Duel(Game):
    """Base of models in which a critic plays against a generator, in turn.

    Goodfellow et al. 2014, Algorithm 1.

    Args:
        loss: loss of critic and generator: nonsaturating, minimax, least-squares, hinge, wasserstein or relativistic
        critic_steps: steps of the critic per round, each on fresh images
        generator_steps: steps of the generator per round
        r1: weight of half the critic's squared gradient at real images
        r2: weight of half the critic's squared gradient at generated images
        gradient_penalty: weight of (gradient norm - 1)^2 between real and generated images (WGAN-GP: 10)
        penalty_every: take the penalties in every N-th round only, with N times the weight (Karras et al. 2020,
            arXiv:1912.04958)
        clip_weights: the critic's weights are clamped to plus or minus this before each of its steps; 0 for never
        smoothing: the critic's target of real images is 1 minus this (one-sided label smoothing)
        label_noise: share of examples whose label, real or generated, is flipped for the critic
        instance_noise: standard deviation of noise on all images and codes the critic sees, falling to 0 over the budget
        augment: DiffAugment, random changes of all images the critic sees, real and generated; all: color, translation and
            cutout; auto: translation-cutout for fewer than 2,500 images
        spectral_norm: divide each critic layer's weights by their largest singular value
        minibatch: kernels of a minibatch discrimination layer before the critic's last; 0 for none
        generator_dropout: share of the generator's hidden units dropped while training
        dropout_in_samples: keep that dropout on while sampling
    """

    pixel_range = (-1.0, 1.0)
    half_pays = True
    batch_size = 64  # steps count for more than the images in them
    noise: Noise = "normal"  # what the generator starts from, where the family leaves no choice
    critic: Any

    def __init__(
        self,
        *,
        loss: Loss = "nonsaturating",
        critic_steps: int = 1,
        generator_steps: int = 1,
        r1: float = 0.0,
        r2: float = 0.0,
        gradient_penalty: float = 0.0,
        penalty_every: int = 1,
        clip_weights: float = 0.0,
        smoothing: float = 0.0,
        label_noise: float = 0.0,
        instance_noise: float = 0.0,
        augment: Augment = "none",
        spectral_norm: bool = False,
        minibatch: int = 0,
        generator_dropout: float = 0.0,
        dropout_in_samples: bool = False,
    ):
        super().__init__()
        self.loss, self.critic_steps, self.generator_steps = loss, critic_steps, generator_steps
        self.r1, self.r2, self.gradient_penalty, self.penalty_every = r1, r2, gradient_penalty, penalty_every
        self.clip_weights, self.smoothing, self.label_noise = clip_weights, smoothing, label_noise
        self.instance_noise, self.augment = instance_noise, augment
        self.spectral_norm, self.minibatch = spectral_norm, minibatch
        self.generator_dropout, self.dropout_in_samples = generator_dropout, dropout_in_samples
        if smoothing and loss not in (*PROBABILISTIC, "least-squares"):
            raise ValueError(f"smoothing has no meaning for the {loss} loss, which has no targets")
        if label_noise > 0.5:
            raise ValueError("label_noise above .5 teaches the critic the opposite")

    def meet(self, data):
        super().meet(data)
        if self.augment == "auto":
            few = len(data) < FEW and min(self.image_shape[1:]) > 2  # points and tables are none
            self.augment = "translation-cutout" if few else "none"
            if hasattr(self, "args"):  # the run keeps what `auto` came to
                self.args["augment"] = self.augment

    def with_rules(self, critic: nn.Module, told: int = 0, projection: bool = False) -> Any:
        """The critic with the layers and norms that the rules ask for; it is told `told` numbers about each image."""
        if self.minibatch:
            self.batch_coupled = True
            name, last = last_linear(critic)
            layer = MinibatchDiscrimination(last.in_features, self.minibatch)
            parent, _, own = name.rpartition(".")
            wider = nn.Linear(last.in_features + self.minibatch, last.out_features)
            setattr(critic.get_submodule(parent), own, nn.Sequential(layer, wider))
        if told:
            critic = ConditionalCritic(critic, told, self.image_shape, projection)
        if self.spectral_norm:
            self.batch_coupled = True  # each pass moves the estimate of the norm
            for m in critic.modules():
                if isinstance(m, nn.Linear | nn.Conv2d):
                    nn.utils.parametrizations.spectral_norm(m)
        return critic

    def with_dropout(self, generator: nn.Module) -> Any:
        """The generator with dropout after each hidden activation, where the rules ask for it."""
        if self.generator_dropout:
            self.batch_coupled = True
            for m in [m for m in generator.modules() if isinstance(m, nn.Sequential)]:
                for i in reversed([i for i, layer in enumerate(m) if isinstance(layer, nn.ReLU | nn.LeakyReLU)]):
                    m.insert(i + 1, Dropout(self.generator_dropout, self.dropout_in_samples))
        return generator

    def players(self):
        return {"critic": [self.critic], "generator": [self.generator]}

    # -- the round -------------------------------------------------------------------------------------------------
    def play(self, data, t):
        steps = self.critic_steps_at(t.round)
        for i in range(1, steps + 1):
            batch = next(data)
            y = self.labels_of(batch, t)
            with torch.set_grad_enabled(i == steps):  # the generator goes on with the last ones
                fake = self.generate(self.start(t, len(batch)), y)
            yield {"critic": self.critic_cost((self.to_network(batch.image),), (fake.detach(),), t, y)}
        for i in range(self.generator_steps):
            if i:
                fake = self.generate(self.start(t, len(batch)), y)
            yield {"generator": self.generator_cost((self.to_network(batch.image),), (fake,), t, y)}

    def critic_steps_at(self, round_: int) -> int:
        """Steps of the critic in this round."""
        return self.critic_steps

    def start(self, t, n: int) -> Tensor:
        """(n, Z) numbers for the generator to start from."""
        return draw_noise(self.noise, t, n, self.latent_dim)

    def verdict(self, *what: Tensor, y: Tensor | None = None) -> Tensor:
        """The critic's logits (B,); `y` is what the images are said to be, where the model is conditional."""
        return self.critic(*what) if self.condition is None else self.critic(*what, self.condition(y, len(what[0])))

    def look(self, images: tuple[Tensor, ...], y: Tensor | None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The critic's verdicts (B,) on several batches, and its features of them; where it norms over a batch, in one pass
        for all, else apart, so that no gradient is taken where none is asked for."""
        told = [] if self.condition is None else [self.condition(y, len(images[0]))]
        if self.minibatch or not self.batch_coupled:
            verdicts, features = zip(*[self.critic.features(x, *told) for x in images], strict=True)
            return verdicts, features
        verdict, features = self.critic.features(torch.cat(images), *[c.repeat(len(images), 1) for c in told])
        return verdict.chunk(len(images)), features.chunk(len(images))

    def critic_eyes(self) -> tuple[nn.Module, nn.Module | None]:
        critic: Any = getattr(self, "critic", None)  # a restorer may do without
        told = isinstance(critic, ConditionalCritic)
        body = getattr(critic.critic if told else critic, "body", None)
        return super().critic_eyes() if body is None else (body, self.critic.plane if told else None)

    def critic_cost(self, real: tuple[Tensor, ...], fake: tuple[Tensor, ...], t, y: Tensor | None = None) -> Tensor:
        """The critic's loss on real and generated examples, each a tuple of what it is shown; penalties included."""
        self.clamp()
        a, b = self.verdict(*self.disguise(real, t), y=y), self.verdict(*self.disguise(fake, t), y=y)
        real_cost, fake_cost = self.costs(a, b, t)
        t.log("critic_real", real_cost)
        t.log("critic_fake", fake_cost)
        return real_cost.mean() + fake_cost.mean() + self.penalty(real, fake, t, y)

    def costs(self, real: Tensor, fake: Tensor, t) -> tuple[Tensor, Tensor]:
        """The critic's costs, some of them the wrong way round under label noise. Fakes may come in several kinds."""
        right = critic_loss(real, fake, self.loss, self.smoothing)
        if self.loss == "wasserstein":
            t.log("estimate", -(right[0].mean() + right[1].mean()))
        if not self.label_noise:
            return right
        if self.loss == "relativistic":  # a pair is told apart the wrong way round
            wrong = critic_loss(-real, -fake, self.loss)
        else:
            # each verdict under the other kind's formula
            wrong = critic_loss(fake, real, self.loss, self.smoothing)[::-1]
        flipped = t.rand(real.shape[-1], 2) < self.label_noise
        if self.loss == "relativistic":
            flipped[:, 1] = flipped[:, 0]
        a, b = (torch.where(flipped[:, i], w, r) for i, (w, r) in enumerate(zip(wrong, right, strict=True)))
        return a, b

    def generator_cost(self, real: tuple[Tensor, ...], fake: tuple[Tensor, ...], t, y: Tensor | None = None) -> Tensor:
        """The generator's loss; `real` is looked at under the relativistic loss alone."""
        other = self.verdict(*self.disguise(real, t), y=y) if self.loss == "relativistic" else None
        cost = generator_loss(self.verdict(*self.disguise(fake, t), y=y), self.loss, other).mean()
        t.log("generator", cost)
        return cost

    def reversal(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor] | None:
        """What makes the critic's pass the generator's too (see `parts.adversarial.reversal`), or None where it cannot be:
        under costs of another form, or verdicts of several examples at once."""
        return None if self.label_noise or self.batch_coupled else reversal(real, fake, self.loss)

    def disguise(self, what: tuple[Tensor, ...], t) -> tuple[Tensor, ...]:
        """What the critic is shown: images (or codes) under instance noise and DiffAugment."""
        if self.augment not in ("none", "auto"):
            what = tuple(self.augmented(x, t) if x.dim() == 4 else x for x in what)
        if self.instance_noise:
            scale = self.instance_noise * (1 - t.progress)
            what = tuple(x + scale * t.randn(*x.shape) for x in what)
        return what

    def augmented(self, x: Tensor, t) -> Tensor:
        """DiffAugment of images in the networks' range; it is defined for [-1, 1]."""
        low, high = self.pixel_range
        scale, centre = (high - low) / 2, (high + low) / 2
        return augment((x - centre) / scale, self.augment, t) * scale + centre

    def penalty(self, real: tuple[Tensor, ...], fake: tuple[Tensor, ...], t, y: Tensor | None = None) -> Tensor:
        """The gradient penalties due in this round, mean over the batch."""
        total = torch.zeros((), device=self.device)
        if not (self.r1 or self.r2 or self.gradient_penalty) or t.round % self.penalty_every:
            return total

        def critic(*what: Tensor) -> Tensor:
            return self.verdict(*what, y=y)

        with uncompiled(self.critic):
            if self.r1:
                total = total + 0.5 * self.r1 * squared_gradient(critic, *real).mean()
            if self.r2:
                total = total + 0.5 * self.r2 * squared_gradient(critic, *fake).mean()
            if self.gradient_penalty:
                share = t.rand(len(real[0]), 1)
                total = total + self.gradient_penalty * unit_gradient(critic, real, fake, share).mean()
        t.log("penalty", total)
        return total * self.penalty_every

    @torch.no_grad()
    def clamp(self) -> None:
        """WGAN's clamp of the critic's weights, where asked for."""
        if self.clip_weights:
            for p in self.critic.parameters():
                p.clamp_(-self.clip_weights, self.clip_weights)

    # -- what is said of it ----------------------------------------------------------------------------------------
    @property
    def prior_noise(self) -> Noise:
        return self.noise

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """What the critic says of an image and of a fresh sample: logits (B,)."""
        z = self.draw_prior(len(batch), torch.default_generator).to(batch.image.device)
        y = self.labels_of(batch)
        real, fake = self.to_network(batch.image), self.generate(z, y)
        return {"critic_real_logit": self.judged(real, y=y), "critic_fake_logit": self.judged(fake, y=y)}

    def judged(self, *what: Tensor, y: Tensor | None = None) -> Tensor:
        """Verdicts (B,) outside of training. A critic that compares the examples of a batch is asked about batches of the size
        it knows."""
        size = (self.part_size or self.batch_size) if self.minibatch else len(what[0])
        parts = zip(*[x.split(size) for x in what], strict=True)
        told = repeat(None) if y is None else y.split(size)
        return torch.cat([self.verdict(*part, y=k) for part, k in zip(parts, told, strict=False)])

    def objective(self) -> list[list[Term]]:
        real, fake = ("x", "G(z)") if self.condition is None else ("x|y", "G(z,y)|y")
        critic = self.critic_terms(real, fake)
        generator = [Term("generator", GENERATOR[self.loss].format(real=real, fake=fake))]
        return [critic] * self.critic_steps + [generator] * self.generator_steps

    def real_formula(self) -> str:
        """The critic's cost of real examples, whose target is 1 or, under smoothing, less."""
        if not self.smoothing:
            return CRITIC_REAL[self.loss]
        goal = f"{1 - self.smoothing:g}"
        if self.loss == "least-squares":
            return f"(D({{real}}) - {goal})^2"
        return f"-{goal} log s(D({{real}})) - {self.smoothing:g} log(1 - s(D({{real}})))"

    def critic_terms(self, real: str, *fakes: str) -> list[Term]:
        """The critic's loss term by term."""
        out = [Term("critic", self.real_formula().format(real=real))] if self.loss in CRITIC_REAL else []
        out += [Term("critic", CRITIC_FAKE[self.loss].format(real=real, fake=fake)) for fake in fakes]
        fake = fakes[-1]
        out += [Term("critic", f"||grad D({real})||^2 / 2", self.r1)] * bool(self.r1)
        out += [Term("critic", f"||grad D({fake})||^2 / 2", self.r2)] * bool(self.r2)
        between = f"(||grad D(between {real} and {fake})|| - 1)^2"
        return out + [Term("critic", between, self.gradient_penalty)] * bool(self.gradient_penalty)
