"""A train step of one's own: two losses, accumulated gradients, and a metric of one's own.

The model classifies noisy signals and removes their noise; four small batches make one step.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

LENGTH, KINDS, ACCUMULATE = 32, 4, 4
FOLDER = Path("results/custom_step")


def make_signals(count, rng):
    """Return noisy signals, the same without noise, and the kind of each."""
    kinds = rng.integers(KINDS, size=count)
    time = np.linspace(0, 2 * np.pi, LENGTH)
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    clean = np.sin((kinds[:, None] + 1) * time + phase).astype("float32")
    return clean + rng.normal(0, 0.4, clean.shape).astype("float32"), clean, kinds


class SignalToNoise(keras.metrics.Metric):
    """The ratio of signal to remaining noise over an epoch, in decibels."""

    def __init__(self, name="snr"):
        super().__init__(name=name)
        self.signal = self.add_variable((), "zeros", name="signal")
        self.noise = self.add_variable((), "zeros", name="noise")

    def update_state(self, y_true, y_pred):
        self.signal.assign_add(ops.sum(ops.square(y_true)))
        self.noise.assign_add(ops.sum(ops.square(y_true - y_pred)))

    def result(self):
        return 10 * ops.log10(self.signal / (self.noise + 1e-7))


class Denoiser(keras.Model):
    """Two outputs, one loss for each, and an optimizer step for each few batches."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
        self.trackers = [keras.metrics.Mean("loss"), SignalToNoise(), accuracy]
        self.batches = keras.Variable(0, dtype="int32", trainable=False)
        weights = network.trainable_weights
        self.sums = [keras.Variable(ops.zeros_like(w), trainable=False) for w in weights]

    @property
    def metrics(self):
        """The metrics that Keras resets at the start of each epoch."""
        return self.trackers

    def compute(self, data, training):
        """Return the weighted loss of a batch, after an update of the metrics."""
        signals, (clean, kinds) = data
        denoised, kind = self.network(signals, training=training)
        losses = keras.losses.sparse_categorical_crossentropy(kinds, kind)
        losses += 2.0 * keras.losses.mean_squared_error(clean, denoised)
        values = [(losses,), (clean, denoised), (kinds, kind)]
        for tracker, each in zip(self.trackers, values, strict=True):
            tracker.update_state(*each)
        return ops.mean(losses)

    def train_step(self, data):
        weights = self.network.trainable_weights
        with tf.GradientTape() as tape:
            loss = self.compute(data, training=True) / ACCUMULATE
        for total, gradient in zip(self.sums, tape.gradient(loss, weights), strict=True):
            total.assign_add(gradient)
        self.batches.assign_add(1)
        tf.cond(self.batches % ACCUMULATE == 0, self.apply_sums, lambda: None)
        return self.get_metrics_result()

    def apply_sums(self):
        """Apply the sums of gradients, and start them over."""
        self.optimizer.apply([ops.copy(s) for s in self.sums], self.network.trainable_weights)
        for total in self.sums:
            total.assign(ops.zeros_like(total))

    def test_step(self, data):
        self.compute(data, training=False)
        return self.get_metrics_result()


def main():
    """Train with averaged weights, and print the metrics of the test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    keras.utils.set_random_seed(37)
    FOLDER.mkdir(parents=True, exist_ok=True)
    signals, clean, kinds = make_signals(1000, np.random.default_rng(37))
    data = tf.data.Dataset.from_tensor_slices((signals, (clean, kinds)))
    train, test = data.take(800).shuffle(800).batch(16).prefetch(2), data.skip(800).batch(100)

    inputs = keras.Input((LENGTH,))
    x = layers.Dense(24)(layers.Dropout(0.1)(layers.Dense(48, activation="gelu")(inputs)))
    outputs = [layers.Dense(LENGTH)(x), layers.Dense(KINDS, activation="softmax")(x)]
    model = Denoiser(keras.Model(inputs, outputs))
    model.compile(keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.9))
    model.fit(
        train,
        epochs=options.epochs,
        validation_data=test,
        verbose=2,
        callbacks=[
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            keras.callbacks.EarlyStopping("val_snr", mode="max", patience=2),
            keras.callbacks.TensorBoard(FOLDER / "board", update_freq=20),
            keras.callbacks.CSVLogger(FOLDER / "log.csv"),
        ],
    )
    results = model.evaluate(test, verbose=0, return_dict=True)
    print("Test:", ", ".join(f"{name} {value:.5f}" for name, value in sorted(results.items())))


if __name__ == "__main__":
    main()
