"""JAX with the whole step jitted, buffers donated, images indexed on the device; networks in Flax, Adam from Optax."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clockwork import BATCH, LATENT, RATE, contest, digits, options

IMAGE, CODE = np.zeros((1, 28, 28, 1), np.float32), np.zeros((1, LATENT), np.float32)


class ConvEncoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(32, (3, 3), 2, "VALID")(x))
        x = nn.relu(nn.Conv(64, (3, 3), 2, "VALID")(x))
        return nn.Dense(2 * LATENT)(x.reshape(len(x), -1))


class ConvDecoder(nn.Module):
    @nn.compact
    def __call__(self, z):
        x = nn.relu(nn.Dense(1568)(z)).reshape(-1, 7, 7, 32)
        x = nn.relu(nn.ConvTranspose(64, (3, 3), (2, 2))(x))
        x = nn.relu(nn.ConvTranspose(32, (3, 3), (2, 2))(x))
        return nn.ConvTranspose(1, (3, 3))(x)


class DenseEncoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2 * LATENT)(nn.relu(nn.Dense(400)(x.reshape(len(x), -1))))


class DenseDecoder(nn.Module):
    @nn.compact
    def __call__(self, z):
        return nn.Dense(784)(nn.relu(nn.Dense(400)(z))).reshape(-1, 28, 28, 1)


class Generator(nn.Module):
    @nn.compact
    def __call__(self, z):
        def normed(x):
            return nn.leaky_relu(nn.BatchNorm(use_running_average=False)(x), 0.2)

        x = normed(nn.Dense(12544, use_bias=False)(z)).reshape(-1, 7, 7, 256)
        x = normed(nn.ConvTranspose(128, (5, 5), use_bias=False)(x))
        x = normed(nn.ConvTranspose(64, (5, 5), (2, 2), use_bias=False)(x))
        return jnp.tanh(nn.ConvTranspose(1, (5, 5), (2, 2), use_bias=False)(x))


class DropCritic(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (64, 128):
            x = nn.Dropout(0.3, deterministic=False)(nn.leaky_relu(nn.Conv(width, (5, 5), 2)(x), 0.2))
        return nn.Dense(1)(x.max((1, 2)))


class WideEncoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (64, 128):
            x = nn.relu(nn.Conv(width, (4, 4), 2)(x))
        return nn.Dense(2 * LATENT)(x.reshape(len(x), -1))


class WideDecoder(nn.Module):
    @nn.compact
    def __call__(self, z):
        x = nn.relu(nn.Dense(6272)(z)).reshape(-1, 7, 7, 128)
        return nn.ConvTranspose(1, (4, 4), (2, 2))(nn.relu(nn.ConvTranspose(64, (4, 4), (2, 2))(x)))


class FeatureCritic(nn.Module):
    @nn.compact
    def __call__(self, x):
        f = nn.Conv(128, (4, 4), 2)(nn.leaky_relu(nn.Conv(64, (4, 4), 2)(x), 0.2))
        return nn.Dense(1)(nn.leaky_relu(f, 0.2).reshape(len(f), -1)), f


bce = optax.sigmoid_binary_cross_entropy


def drawn(encoder, weights, x, key):
    mean, log_variance = jnp.split(encoder.apply(weights, x), 2, 1)
    kl = -0.5 * (1 + log_variance - mean**2 - jnp.exp(log_variance)).sum(1).mean()
    return mean + jax.random.normal(key, mean.shape) * jnp.exp(0.5 * log_variance), kl


def vae(encoder, decoder):
    def start(key):
        a, b = jax.random.split(key)
        both = {"encoder": encoder.init(a, IMAGE), "decoder": decoder.init(b, CODE)}
        return {"vae": both}

    def gradients(players, x, key, state):
        def loss(weights):
            z, kl = drawn(encoder, weights["encoder"], x, key)
            return bce(decoder.apply(weights["decoder"], z), x).sum((1, 2, 3)).mean() + kl

        value, grads = jax.value_and_grad(loss)(players["vae"])
        return value, {"vae": grads}, state

    return start, gradients, {}


def dcgan():
    generator, critic = Generator(), DropCritic()

    def start(key):
        a, b, c = jax.random.split(key, 3)
        made = generator.init(a, jnp.zeros((2, 100)))
        judge = critic.init({"params": b, "dropout": c}, IMAGE)
        return {"generator": made["params"], "critic": judge["params"]}, made["batch_stats"]

    def gradients(players, x, key, stats):
        key, first, second = jax.random.split(key, 3)

        def play(generating, judging):
            z = jax.random.uniform(key, (BATCH, 100), minval=-1, maxval=1)
            variables = {"params": generating, "batch_stats": stats}
            fake, moved = generator.apply(variables, z, mutable=["batch_stats"])
            real = critic.apply({"params": judging}, 2 * x - 1, rngs={"dropout": first})
            made = critic.apply({"params": judging}, fake, rngs={"dropout": second})
            cost = (bce(real, jnp.ones_like(real)) + bce(made, jnp.zeros_like(made))).mean()
            return (bce(made, jnp.ones_like(made)).mean(), cost), moved["batch_stats"]

        (_, cost), back, moved = jax.vjp(play, players["generator"], players["critic"], has_aux=True)
        return cost, {"generator": back((1.0, 0.0))[0], "critic": back((0.0, 1.0))[1]}, moved

    return start, gradients, None


def vae_gan():
    encoder, decoder, critic = WideEncoder(), WideDecoder(), FeatureCritic()

    def start(key):
        a, b, c = jax.random.split(key, 3)
        return {"encoder": encoder.init(a, IMAGE), "decoder": decoder.init(b, CODE), "critic": critic.init(c, IMAGE)}

    def gradients(players, x, key, state):
        first, second = jax.random.split(key)

        def play(e, d, c):
            z, kl = drawn(encoder, e, x, first)
            rebuilt = jax.nn.sigmoid(decoder.apply(d, z))
            sampled = jax.nn.sigmoid(decoder.apply(d, jax.random.normal(second, z.shape)))
            (real, f), (_, g), (made, _) = (critic.apply(c, images) for images in (x, rebuilt, sampled))
            likeness = 0.5 * ((f - g) ** 2).sum((1, 2, 3)).mean()
            cost = (bce(real, jnp.ones_like(real)) + bce(made, jnp.zeros_like(made))).mean()
            return kl + likeness, 0.1 * likeness + bce(made, jnp.ones_like(made)).mean(), cost

        losses, back = jax.vjp(play, players["encoder"], players["decoder"], players["critic"])
        ones = np.eye(3, dtype=np.float32)
        grads = {k: back(tuple(ones[i]))[i] for i, k in enumerate(("encoder", "decoder", "critic"))}
        return losses[2], grads, state

    return start, gradients, {}


def main() -> None:
    o = options()
    builds = {
        "conv-vae": lambda: vae(ConvEncoder(), ConvDecoder()), "dense-vae": lambda: vae(DenseEncoder(), DenseDecoder()),
        "dcgan": dcgan, "vae-gan": vae_gan,
    }  # fmt: skip
    start, gradients, state = builds[o.workload]()
    players = start(jax.random.PRNGKey(0))
    if state is None:
        players, state = players
    adam = optax.adam(RATE)
    images = jnp.asarray(digits(o.data)[..., None])

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(players, moments, state, index, key):
        loss, grads, state = gradients(players, images[index], key, state)
        changes, moments = adam.update(grads, moments, players)
        return optax.apply_updates(players, changes), moments, state, loss

    kept = [players, adam.init(players), state]
    order, at, number = np.random.default_rng(0), [len(images)], [0]
    shuffled = [np.arange(len(images))]

    def go():
        if at[0] + BATCH > len(images):
            shuffled[0], at[0] = order.permutation(len(images)), 0
        index = shuffled[0][at[0] : at[0] + BATCH]
        at[0], number[0] = at[0] + BATCH, number[0] + 1
        *kept[:], loss = step(*kept, index, jax.random.PRNGKey(number[0]))
        return float(loss)

    contest(go, o, ("jax", "jaxlib", "flax", "optax", "numpy"))


if __name__ == "__main__":
    main()
