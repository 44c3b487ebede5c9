"""A denoising diffusion model that samples from a moving average (EMA) of its network.

It learns to draw points on a two-dimensional spiral out of noise.
"""

import argparse
import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

EMA, SAMPLES = 0.98, 200
MIN_RATE, MAX_RATE = 0.02, 0.95
FOLDER = Path("results/diffusion")


def make_spiral(count, rng):
    """Return points on a spiral, with a little noise, shape (count, 2)."""
    angle = 3 * np.pi * np.sqrt(rng.random(count))
    points = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    return (points + rng.normal(scale=0.2, size=points.shape)).astype("float32")


class SinusoidalEmbedding(layers.Layer):
    """Sines of a number at several frequencies."""

    def call(self, numbers):
        frequencies = 2 * np.pi * np.geomspace(1, 100, 8).astype("float32")
        return ops.sin(numbers * frequencies)


def make_network():
    """Return a network that estimates the noise in a point, given the noise's variance."""
    points, variances = keras.Input((2,)), keras.Input((1,))
    x = layers.Concatenate()([points, SinusoidalEmbedding()(variances)])
    for _ in range(3):
        x = layers.Dense(48, activation="swish")(x)
    return keras.Model([points, variances], layers.Dense(2, kernel_initializer="zeros")(x))


class Diffusion(keras.Model):
    """Adds noise in training and removes it in small steps when it samples."""

    def __init__(self):
        super().__init__()
        self.normalizer = layers.Normalization()
        self.network = make_network()
        self.ema_network = keras.models.clone_model(self.network)
        self.ema_network.set_weights(self.network.get_weights())
        self.seed_generator = keras.random.SeedGenerator(1)
        self.noise_loss = keras.metrics.Mean("noise_loss")

    @property
    def metrics(self):
        """The metrics that Keras resets at the start of each epoch."""
        return [self.noise_loss]

    def schedule(self, times):
        """Return the rates of noise and signal at times from 0 (clean) to 1."""
        start, end = math.acos(MAX_RATE), math.acos(MIN_RATE)
        angles = start + times * (end - start)
        return ops.sin(angles), ops.cos(angles)

    def train_step(self, points):
        points = self.normalizer(points)
        shape = ops.shape(points)
        noise = keras.random.normal(shape, seed=self.seed_generator)
        times = keras.random.uniform((shape[0], 1), seed=self.seed_generator)
        noise_rate, signal_rate = self.schedule(times)
        noisy = signal_rate * points + noise_rate * noise
        with tf.GradientTape() as tape:
            estimate = self.network([noisy, noise_rate**2], training=True)
            loss = self.compute_loss(y=noise, y_pred=estimate)
        gradients = tape.gradient(loss, self.network.trainable_weights)
        self.optimizer.apply(gradients, self.network.trainable_weights)
        for weight, average in zip(self.network.weights, self.ema_network.weights, strict=True):
            average.assign(EMA * average + (1 - EMA) * weight)
        self.noise_loss.update_state(loss)
        return {"noise_loss": self.noise_loss.result()}

    def sample(self, count, steps=10):
        """Return new points, denoised by the averaged network."""
        points = keras.random.normal((count, 2), seed=99)
        for step in range(steps, 0, -1):
            noise_rate, signal_rate = self.schedule(np.full((count, 1), step / steps, "float32"))
            noise = self.ema_network([points, noise_rate**2], training=False)
            clean = (points - noise_rate * noise) / signal_rate
            noise_rate, signal_rate = self.schedule(np.full((1, 1), (step - 1) / steps, "float32"))
            points = signal_rate * clean + noise_rate * noise
        return points * ops.sqrt(self.normalizer.variance) + self.normalizer.mean


def main():
    """Train, and measure how far samples are from the spiral."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    keras.utils.set_random_seed(9)
    FOLDER.mkdir(parents=True, exist_ok=True)
    spiral = make_spiral(2000, np.random.default_rng(9))
    model = Diffusion()
    model.normalizer.adapt(spiral)
    model.compile(keras.optimizers.AdamW(0.003, weight_decay=1e-4), loss="mse")
    dataset = tf.data.Dataset.from_tensor_slices(spiral).shuffle(2000).repeat()
    dataset = dataset.batch(50, drop_remainder=True).prefetch(2)

    def save_samples(epoch, logs):
        np.savetxt(FOLDER / f"samples-{epoch + 1:02d}.csv", model.sample(SAMPLES), "%.5f")

    model.fit(
        dataset,
        epochs=options.epochs,
        steps_per_epoch=40,
        verbose=2,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=save_samples),
            keras.callbacks.CSVLogger(FOLDER / "log.csv"),
        ],
    )
    model.ema_network.save_weights(FOLDER / "ema.weights.h5")
    distances = np.linalg.norm(model.sample(SAMPLES)[:, None] - spiral[None], axis=2)
    print(f"Mean distance of a sample from the spiral: {distances.min(axis=1).mean():.4f}")


if __name__ == "__main__":
    main()
