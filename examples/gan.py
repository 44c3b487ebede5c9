"""A deep convolutional GAN: a generator and a discriminator, each with its own optimizer.

The real images are soft blobs at random places.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

SIZE, LATENT = 16, 12
FOLDER = Path("results/gan")


def draw_blobs(count, rng):
    """Return images of blobs in [-1, 1], shape (count, SIZE, SIZE, 1)."""
    y, x = rng.uniform(4, SIZE - 4, size=(2, count, 1, 1))
    grid = np.arange(SIZE)
    squares = (grid[:, None] - y) ** 2 + (grid[None, :] - x) ** 2
    return (2 * np.exp(-squares / 8) - 1)[..., None].astype("float32")


def make_discriminator():
    """Return a model that tells real images (0) from generated ones (1)."""
    model = keras.Sequential([keras.Input((SIZE, SIZE, 1))], name="discriminator")
    for filters in (12, 16):
        model.add(layers.Conv2D(filters, 4, strides=2, padding="same"))
        model.add(layers.LeakyReLU(negative_slope=0.2))
    for layer in (layers.Flatten(), layers.Dropout(0.2), layers.Dense(1)):
        model.add(layer)
    return model


def make_generator():
    """Return a model that makes an image of a random vector."""
    inputs = keras.Input((LATENT,))
    x = layers.Reshape((4, 4, 16))(layers.Dense(4 * 4 * 16)(inputs))
    x = layers.Conv2DTranspose(16, 4, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(layers.BatchNormalization()(x))
    x = layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="tanh")(x)
    return keras.Model(inputs, x, name="generator")


class GAN(keras.Model):
    """Trains both networks in each step, the discriminator first."""

    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.d_loss, self.g_loss = keras.metrics.Mean("d_loss"), keras.metrics.Mean("g_loss")

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn

    @property
    def metrics(self):
        """The metrics that Keras resets at the start of each epoch."""
        return [self.d_loss, self.g_loss]

    def train_step(self, real):
        count = ops.shape(real)[0]
        noise = keras.random.normal((count, LATENT), seed=self.seed_generator)
        labels = ops.concatenate([ops.ones((count, 1)), ops.zeros((count, 1))])
        labels += 0.05 * keras.random.uniform(ops.shape(labels), seed=self.seed_generator)
        images = ops.concatenate([self.generator(noise, training=True), real])
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(images, training=True))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply(tape.gradient(d_loss, weights), weights)

        noise = keras.random.normal((count, LATENT), seed=self.seed_generator)
        with tf.GradientTape() as tape:
            verdicts = self.discriminator(self.generator(noise, training=True))
            g_loss = self.loss_fn(ops.zeros((count, 1)), verdicts)
        weights = self.generator.trainable_weights
        self.g_optimizer.apply(tape.gradient(g_loss, weights), weights)

        self.d_loss.update_state(d_loss)
        self.g_loss.update_state(g_loss)
        return {"d_loss": self.d_loss.result(), "g_loss": self.g_loss.result()}


class GANMonitor(keras.callbacks.Callback):
    """Saves images of new random vectors after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        images = self.model.generator(keras.random.normal((3, LATENT), seed=epoch))
        for number, image in enumerate(images):
            keras.utils.save_img(FOLDER / f"blob-{number}-{epoch + 1}.png", image)


def main():
    """Train, and rate generated images with the discriminator."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    keras.utils.set_random_seed(5)
    FOLDER.mkdir(parents=True, exist_ok=True)
    images = draw_blobs(800, np.random.default_rng(5))
    dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(800).batch(32).prefetch(2)
    gan = GAN(make_discriminator(), make_generator())
    gan.compile(
        d_optimizer=keras.optimizers.Adam(0.001, beta_1=0.5),
        g_optimizer=keras.optimizers.Adam(0.002, beta_1=0.5),
        loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    log = keras.callbacks.CSVLogger(FOLDER / "log.csv")
    gan.fit(dataset, epochs=options.epochs, callbacks=[GANMonitor(), log])
    made = gan.generator.predict(np.zeros((1, LATENT)), verbose=0)
    print(f"The zero vector becomes an image of brightness {made.mean():.5f}")


if __name__ == "__main__":
    main()
