"""Image classification: a small convnet with augmentation layers, fed by tf.data.

The images are drawn below: noisy discs, squares and crosses. `--mnist FILE` trains on the digits of
an mnist.npz instead.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SIZE = 28
FOLDER = Path("results/classification")


def draw_shapes(count, rng):
    """Return images of discs, squares and crosses in [0, 1], and their labels."""
    labels = rng.integers(3, size=count)
    centre = rng.uniform(9, 19, size=(2, count, 1, 1))
    radius = rng.uniform(5, 9, size=(count, 1, 1))
    grid = np.arange(SIZE)
    y = np.abs(grid[:, None] - centre[0])
    x = np.abs(grid[None, :] - centre[1])
    inside = np.maximum(x, y) < radius
    kinds = [np.hypot(x, y) < radius, inside, inside & (np.minimum(x, y) < 2)]
    images = np.choose(labels[:, None, None], kinds) + rng.normal(0, 0.1, (count, SIZE, SIZE))
    return np.clip(images, 0, 1).astype("float32"), labels


def load(path):
    """Return the images and labels for training and validation."""
    if path:
        with np.load(path) as data:
            images, labels = data["x_train"][:4000] / np.float32(255), data["y_train"][:4000]
    else:
        images, labels = draw_shapes(1000, np.random.default_rng(0))
    split = len(images) * 4 // 5
    return (images[:split], labels[:split]), (images[split:], labels[split:])


def make_model(classes):
    """Return a convnet; its first layers augment the images in training."""
    inputs = keras.Input((SIZE, SIZE, 1))
    x = layers.RandomTranslation(0.1, 0.1)(inputs)
    x = layers.RandomRotation(0.05)(x)
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def main():
    """Train, and evaluate the best model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--mnist", metavar="FILE", help="an mnist.npz to train on instead")
    options = parser.parse_args()
    keras.utils.set_random_seed(42)
    FOLDER.mkdir(parents=True, exist_ok=True)

    (images, labels), validation = load(options.mnist)
    train = tf.data.Dataset.from_tensor_slices((images[..., None], labels))
    train = train.cache().shuffle(len(images)).batch(32).prefetch(tf.data.AUTOTUNE)
    test = tf.data.Dataset.from_tensor_slices((validation[0][..., None], validation[1])).batch(100)

    model = make_model(int(labels.max()) + 1)
    model.compile(
        keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    best = FOLDER / "best.keras"
    model.fit(
        train,
        epochs=options.epochs,
        validation_data=test,
        callbacks=[
            keras.callbacks.EarlyStopping(patience=3),
            keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, verbose=1),
            keras.callbacks.ModelCheckpoint(best, save_best_only=True),
            keras.callbacks.CSVLogger(FOLDER / "log.csv"),
            keras.callbacks.TensorBoard(FOLDER / "board"),
        ],
    )
    loss, accuracy = keras.models.load_model(best).evaluate(test, verbose=0)
    print(f"Best model: loss {loss:.4f}, accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
