"""Transfer learning: train a base, freeze it, train a new head, then fine-tune everything.

The base learns to name eight textures; the task has forty images of two other ones.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import layers

SIZE = 16
FOLDER = Path("results/transfer")


def draw_textures(angles, each, rng):
    """Return images of stripes at some angles, and the number of each image's angle."""
    labels = np.tile(np.arange(len(angles)), each)
    angle = np.asarray(angles)[labels][:, None, None] + rng.normal(0, 0.05, (len(labels), 1, 1))
    y, x = np.mgrid[:SIZE, :SIZE]
    phase = rng.uniform(0, 2 * np.pi, (len(labels), 1, 1))
    images = np.sin(x * np.cos(angle) + y * np.sin(angle) + phase)
    images += rng.normal(0, 0.5, images.shape)
    return images[..., None].astype("float32"), labels


def make_base():
    """Return the convolutional base, with features as its output."""
    inputs = x = keras.Input((SIZE, SIZE, 1))
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, strides=2, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="base")


def callbacks(phase):
    """Return the callbacks of a phase."""
    return [
        keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True),
        keras.callbacks.CSVLogger(FOLDER / f"{phase}.csv"),
        keras.callbacks.ModelCheckpoint(FOLDER / f"{phase}.keras", save_best_only=True),
    ]


def compile_classifier(model, rate):
    """Compile a model; needed again after `trainable` has changed."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])


def main():
    """Train in three phases: base, head, everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each phase")
    options = parser.parse_args()
    keras.utils.set_random_seed(17)
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(17)

    base = make_base()
    pretraining = keras.Sequential([base, layers.Dropout(0.2), layers.Dense(8)])
    compile_classifier(pretraining, 0.01)
    images, labels = draw_textures(np.arange(8) * np.pi / 8, 60, rng)
    pretraining.fit(
        images,
        labels,
        epochs=options.epochs,
        validation_data=draw_textures(np.arange(8) * np.pi / 8, 10, rng),
        callbacks=callbacks("pretraining"),
        verbose=2,
    )

    images, labels = draw_textures([0.2, 0.6], 20, rng)
    test = draw_textures([0.2, 0.6], 30, rng)
    base.trainable = False
    inputs = keras.Input((SIZE, SIZE, 1))
    x = base(inputs, training=False)  # batch normalization stays as it is, in all phases
    model = keras.Model(inputs, layers.Dense(2)(layers.Dropout(0.2)(x)))
    for phase, rate in (("head", 0.02), ("fine-tuning", 0.001)):
        base.trainable = phase == "fine-tuning"
        compile_classifier(model, rate)
        model.fit(
            images,
            labels,
            batch_size=8,
            epochs=options.epochs,
            validation_data=test,
            callbacks=callbacks(phase),
            verbose=2,
        )
        loss, accuracy = model.evaluate(*test, verbose=0)
        print(f"After {phase}: loss {loss:.5f}, accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
