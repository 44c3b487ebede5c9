"""A variational autoencoder with a train step of its own.

It learns a plane on which images of ellipses lie in order of their width and height.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

SIZE, LATENT = 16, 2
FOLDER = Path("results/vae")


def draw_ellipses(count, rng):
    """Return images of ellipses in [0, 1], shape (count, SIZE, SIZE, 1)."""
    height, width = rng.uniform(2, 8, size=(2, count, 1, 1))
    grid = np.arange(SIZE) - (SIZE - 1) / 2
    distance = np.hypot(grid[:, None] / height, grid[None, :] / width)
    return (1 / (1 + np.exp(6 * (distance - 1))))[..., None].astype("float32")


class Sampling(layers.Layer):
    """Draws a point around each mean of the encoder."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_var = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * noise


class VAE(keras.Model):
    """An encoder and a decoder, trained on reconstruction and KL divergence."""

    def __init__(self, **options):
        super().__init__(**options)
        images = keras.Input((SIZE, SIZE, 1))
        x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(images)
        x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
        mean, log_var = layers.Dense(LATENT)(x), layers.Dense(LATENT)(x)
        self.encoder = keras.Model(images, [mean, log_var, Sampling()([mean, log_var])])
        points = keras.Input((LATENT,))
        x = layers.Dense(8 * 8 * 8, activation="relu")(points)
        x = layers.Reshape((8, 8, 8))(x)
        x = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(x)
        self.decoder = keras.Model(points, x)
        self.trackers = [keras.metrics.Mean(name) for name in ("loss", "reconstruction", "kl")]

    @property
    def metrics(self):
        """The metrics that Keras resets at the start of each epoch."""
        return self.trackers

    def train_step(self, images):
        with tf.GradientTape() as tape:
            mean, log_var, points = self.encoder(images, training=True)
            errors = keras.losses.binary_crossentropy(images, self.decoder(points, training=True))
            reconstruction = ops.sum(errors, axis=(1, 2))
            kl = -0.5 * ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), axis=1)
            loss = ops.mean(reconstruction + kl)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        for tracker, value in zip(self.trackers, (loss, reconstruction, kl), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


class DrawPlane(keras.callbacks.Callback):
    """Decodes a grid of points after each epoch into an image of its own."""

    def on_epoch_end(self, epoch, logs=None):
        axis = np.linspace(-1.5, 1.5, 5)
        points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, LATENT)
        images = self.model.decoder.predict(points, verbose=0).reshape(5, 5, SIZE, SIZE)
        plane = images.transpose(0, 2, 1, 3).reshape(5 * SIZE, 5 * SIZE, 1)
        keras.utils.save_img(FOLDER / f"plane-{epoch + 1:02d}.png", plane)


def main():
    """Train, and show where a wide and a high ellipse lie."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    keras.utils.set_random_seed(11)
    FOLDER.mkdir(parents=True, exist_ok=True)
    images = draw_ellipses(960, np.random.default_rng(11))
    vae = VAE()
    vae.compile(keras.optimizers.Adam(0.005))
    decay = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9 if epoch else rate)
    vae.fit(images, epochs=options.epochs, batch_size=48, callbacks=[decay, DrawPlane()], verbose=2)
    means = vae.encoder.predict(images[:2], verbose=0)[0]
    print("The first two images lie at", means.round(4).tolist())


if __name__ == "__main__":
    main()
