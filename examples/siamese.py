"""A siamese network with contrastive loss: do two spectra come from the same material?"""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

MATERIALS, BANDS = 12, 40
FOLDER = Path("results/siamese")


def measure_spectra(each, rng):
    """Return noisy spectra of all materials, shape (MATERIALS, each, BANDS)."""
    bands = np.arange(BANDS)
    spectra = np.zeros((MATERIALS, 1, BANDS))
    for _ in range(3):
        peak, width = rng.uniform([[0], [1]], [[BANDS], [5]], size=(2, MATERIALS))
        spectra[:, 0] += np.exp(-(((bands - peak[:, None]) / width[:, None]) ** 2))
    scale = rng.uniform(0.7, 1.3, size=(MATERIALS, each, 1))
    return (spectra * scale + rng.normal(0, 0.3, (MATERIALS, each, BANDS))).astype("float32")


def make_pairs(spectra, rng):
    """Return two arrays of spectra, and 0 for each pair of one material, else 1."""
    materials, each = spectra.shape[:2]
    first, second, labels = [], [], []
    for material, number in np.ndindex(materials, each):
        other = (material + rng.integers(1, materials)) % materials
        for partner in (material, other):
            first.append(spectra[material, number])
            second.append(spectra[partner, rng.integers(each)])
            labels.append(float(partner != material))
    return np.array(first), np.array(second), np.array(labels, "float32")[:, None]


@keras.saving.register_keras_serializable()
class Distance(layers.Layer):
    """The Euclidean distance of two vectors."""

    def call(self, first, second):
        squares = ops.sum(ops.square(first - second), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(squares, 1e-7))


@keras.saving.register_keras_serializable()
class ContrastiveLoss(keras.losses.Loss):
    """Pulls equal pairs together, and pushes others apart up to the margin."""

    def __init__(self, margin=1.0, **options):
        super().__init__(**options)
        self.margin = margin

    def call(self, labels, distances):
        apart = ops.square(ops.maximum(self.margin - distances, 0))
        return ops.mean((1 - labels) * ops.square(distances) + labels * apart, axis=-1)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


def make_model():
    """Return the network of pairs: one encoder, applied to both."""
    encoder = keras.Sequential(
        [
            keras.Input((BANDS,)),
            layers.GaussianNoise(0.1),
            layers.Reshape((BANDS, 1)),
            layers.Conv1D(8, 5, activation="relu"),
            layers.AveragePooling1D(2),
            layers.Flatten(),
            layers.Dense(12),
        ],
        name="encoder",
    )
    first, second = keras.Input((BANDS,)), keras.Input((BANDS,))
    return keras.Model([first, second], Distance()(encoder(first), encoder(second)))


def main():
    """Train on pairs, and count right answers on pairs of new measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    keras.utils.set_random_seed(21)
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(21)
    spectra = measure_spectra(60, rng)
    first, second, labels = make_pairs(spectra[:, :40], rng)
    test = make_pairs(spectra[:, 40:], rng)

    model = make_model()
    model.compile(
        keras.optimizers.RMSprop(0.002),
        loss=ContrastiveLoss(margin=1.0),
        metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.5)],
    )
    model.fit(
        [first, second],
        labels,
        batch_size=32,
        epochs=options.epochs,
        validation_split=0.2,
        callbacks=[
            keras.callbacks.EarlyStopping("val_accuracy", patience=2, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint(FOLDER / "epoch-{epoch:02d}.keras", save_freq="epoch"),
            keras.callbacks.CSVLogger(FOLDER / "log.csv"),
        ],
    )
    loss, accuracy = model.evaluate(list(test[:2]), test[2], verbose=0)
    print(f"New pairs: loss {loss:.5f}, {accuracy:.1%} right")


if __name__ == "__main__":
    main()
