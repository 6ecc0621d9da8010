"""TensorFlow as its tutorials use it: Keras layers, tf.data, and the whole step in one tf.function; `--variant xla` compiles
it. The DCGAN takes both gradients from one forward pass, as its tutorial does."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import tensorflow as tf
from clockwork import BATCH, LATENT, RATE, contest, digits, options
from keras import layers as L

tf.config.threading.set_intra_op_parallelism_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def net(size, *layers):
    return keras.Sequential([keras.Input(size), *layers])


def up(width, kernel, stride, **rest):
    return L.Conv2DTranspose(width, kernel, stride, padding="same", **rest)


def conv_vae():
    encoder = net((28, 28, 1), L.Conv2D(32, 3, 2, activation="relu"), L.Conv2D(64, 3, 2, activation="relu"), L.Flatten(),
                  L.Dense(2 * LATENT))  # fmt: skip
    decoder = net((LATENT,), L.Dense(1568, activation="relu"), L.Reshape((7, 7, 32)), up(64, 3, 2, activation="relu"),
                  up(32, 3, 2, activation="relu"), up(1, 3, 1))  # fmt: skip
    return vae(encoder, decoder)


def dense_vae():
    encoder = net((28, 28, 1), L.Flatten(), L.Dense(400, activation="relu"), L.Dense(2 * LATENT))
    return vae(encoder, net((LATENT,), L.Dense(400, activation="relu"), L.Dense(784), L.Reshape((28, 28, 1))))


def adam(variables):
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(variables)
    return optimizer


def bce(target, logits):
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)


def drawn(encoder, x):
    mean, log_variance = tf.split(encoder(x, training=True), 2, 1)
    kl = -0.5 * tf.reduce_mean(tf.reduce_sum(1 + log_variance - mean**2 - tf.exp(log_variance), 1))
    return mean + tf.random.normal(tf.shape(mean)) * tf.exp(0.5 * log_variance), kl


def vae(encoder, decoder):
    variables = encoder.trainable_variables + decoder.trainable_variables
    optimizer = adam(variables)

    def step(x):
        with tf.GradientTape() as tape:
            z, kl = drawn(encoder, x)
            loss = tf.reduce_mean(tf.reduce_sum(bce(x, decoder(z, training=True)), (1, 2, 3))) + kl
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step


def dcgan():
    leaky, norm = (lambda: L.LeakyReLU(negative_slope=0.2)), L.BatchNormalization
    generator = net((100,), L.Dense(12544, use_bias=False), norm(), leaky(), L.Reshape((7, 7, 256)),
                    up(128, 5, 1, use_bias=False), norm(), leaky(), up(64, 5, 2, use_bias=False), norm(), leaky(),
                    up(1, 5, 2, use_bias=False, activation="tanh"))  # fmt: skip
    critic = net((28, 28, 1), L.Conv2D(64, 5, 2, padding="same"), leaky(), L.Dropout(0.3),
                 L.Conv2D(128, 5, 2, padding="same"), leaky(), L.Dropout(0.3), L.GlobalMaxPooling2D(), L.Dense(1))  # fmt: skip
    mine, its = generator.trainable_variables, critic.trainable_variables
    of_generator, of_critic = adam(mine), adam(its)

    def step(x):
        with tf.GradientTape() as first, tf.GradientTape() as second:
            fake = generator(tf.random.uniform((BATCH, 100), -1.0, 1.0), training=True)
            real, made = critic(2 * x - 1, training=True), critic(fake, training=True)
            loss = tf.reduce_mean(bce(tf.ones_like(real), real) + bce(tf.zeros_like(made), made))
            fool = tf.reduce_mean(bce(tf.ones_like(made), made))
        of_critic.apply_gradients(zip(second.gradient(loss, its), its, strict=True))
        of_generator.apply_gradients(zip(first.gradient(fool, mine), mine, strict=True))
        return loss

    return step


def vae_gan():
    def down(width, **rest):
        return L.Conv2D(width, 4, 2, padding="same", **rest)

    encoder = net(
        (28, 28, 1), down(64, activation="relu"), down(128, activation="relu"), L.Flatten(), L.Dense(2 * LATENT)
    )
    decoder = net((LATENT,), L.Dense(6272, activation="relu"), L.Reshape((7, 7, 128)), up(64, 4, 2, activation="relu"),
                  up(1, 4, 2))  # fmt: skip
    body = net((28, 28, 1), down(64), L.LeakyReLU(negative_slope=0.2), down(128))
    head = net((7, 7, 128), L.LeakyReLU(negative_slope=0.2), L.Flatten(), L.Dense(1))
    variables = [
        encoder.trainable_variables,
        decoder.trainable_variables,
        body.trainable_variables + head.trainable_variables,
    ]
    optimizers = [adam(v) for v in variables]

    def step(x):
        with tf.GradientTape(persistent=True) as tape:
            z, kl = drawn(encoder, x)
            rebuilt, sampled = tf.sigmoid(decoder(z)), tf.sigmoid(decoder(tf.random.normal((BATCH, LATENT))))
            f, g = body(x), body(rebuilt)
            real, made = head(f), head(body(sampled))
            likeness = 0.5 * tf.reduce_mean(tf.reduce_sum((f - g) ** 2, (1, 2, 3)))
            fool = tf.reduce_mean(bce(tf.ones_like(made), made))
            loss = tf.reduce_mean(bce(tf.ones_like(real), real) + bce(tf.zeros_like(made), made))
            losses = [kl + likeness, 0.1 * likeness + fool, loss]
        gradients = [tape.gradient(cost, v) for cost, v in zip(losses, variables, strict=True)]
        for optimizer, grads, v in zip(optimizers, gradients, variables, strict=True):
            optimizer.apply_gradients(zip(grads, v, strict=True))
        return loss

    return step


def main() -> None:
    o = options()
    keras.utils.set_random_seed(0)
    images = digits(o.data)[..., None]
    stream = tf.data.Dataset.from_tensor_slices(images).shuffle(60_000).batch(BATCH, drop_remainder=True).repeat()
    batches = iter(stream.prefetch(tf.data.AUTOTUNE))
    build = {"conv-vae": conv_vae, "dense-vae": dense_vae, "dcgan": dcgan, "vae-gan": vae_gan}[o.workload]
    step = tf.function(build(), jit_compile=o.variant == "xla")
    contest(lambda: float(step(next(batches))), o, ("tensorflow-cpu", "keras", "numpy"))


if __name__ == "__main__":
    main()
