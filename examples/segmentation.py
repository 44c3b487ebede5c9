"""Semantic segmentation: a small U-Net, fed by a PyDataset that shuffles itself."""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from keras import layers

SIZE, CLASSES = 32, 3
FOLDER = Path("results/segmentation")


def draw_cells(seed):
    """Return an image of cells with nuclei, and the class of each pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    mask = np.zeros((SIZE, SIZE), "uint8")
    for _ in range(rng.integers(2, 5)):
        top, left = rng.uniform(6, SIZE - 6, size=2)
        distance = np.hypot(y - top, x - left)
        radius = rng.uniform(4, 7)
        mask[(distance < radius) & (mask == 0)] = 1
        mask[distance < radius / 2] = 2
    image = np.array([0.1, 0.5, 0.8])[mask] + rng.normal(0, 0.15, mask.shape)
    return image[..., None].astype("float32"), mask


class Cells(keras.utils.PyDataset):
    """Batches of images, drawn when they are needed, in another order in each epoch."""

    def __init__(self, seeds, batch_size=16, shuffle=False, **options):
        super().__init__(**options)
        self.seeds = np.array(seeds)
        self.batch_size = batch_size
        self.rng = np.random.default_rng(0) if shuffle else None
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.seeds) // self.batch_size)

    def __getitem__(self, index):
        seeds = self.seeds[index * self.batch_size : (index + 1) * self.batch_size]
        images, masks = zip(*map(draw_cells, seeds), strict=True)
        return np.stack(images), np.stack(masks)

    def on_epoch_end(self):
        """Shuffle the images for the next epoch."""
        if self.rng is not None:
            self.rng.shuffle(self.seeds)


def make_unet(filters=(8, 16)):
    """Return a U-Net: down, up, and a skip connection at each size."""
    x = inputs = keras.Input((SIZE, SIZE, 1))
    skips = []
    for count in filters:
        x = layers.SeparableConv2D(count, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(2 * filters[-1], 3, padding="same", activation="relu")(x)
    for count, skip in zip(reversed(filters), reversed(skips), strict=True):
        x = layers.Concatenate()([layers.UpSampling2D(2)(x), skip])
        x = layers.Conv2D(count, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1, activation="softmax")(x))


class WorstImages(keras.callbacks.Callback):
    """Keeps a list of the images with the most wrong pixels, and writes it after each epoch."""

    def __init__(self, dataset):
        super().__init__()
        self.dataset, self.found = dataset, []

    def on_epoch_end(self, epoch, logs=None):
        images, masks = self.dataset[0]
        wrong = (self.model.predict(images, verbose=0).argmax(-1) != masks).sum(axis=(1, 2))
        self.found.append({"epoch": epoch, "image": int(wrong.argmax()), "wrong": int(wrong.max())})
        (FOLDER / "worst.json").write_text(json.dumps(self.found, indent=1))


def main():
    """Train, and print the mean intersection over union."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    keras.utils.set_random_seed(13)
    FOLDER.mkdir(parents=True, exist_ok=True)
    train, validation = Cells(range(240), shuffle=True), Cells(range(240, 300))
    model = make_unet()
    iou = keras.metrics.MeanIoU(CLASSES, sparse_y_true=True, sparse_y_pred=False, name="iou")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[iou])
    model.fit(
        train,
        epochs=options.epochs,
        validation_data=validation,
        callbacks=[
            keras.callbacks.ModelCheckpoint(FOLDER / "best.keras", save_best_only=True),
            keras.callbacks.ReduceLROnPlateau("val_iou", mode="max", patience=2),
            keras.callbacks.CSVLogger(FOLDER / "log.csv"),
            WorstImages(validation),
        ],
    )
    results = model.evaluate(validation, verbose=0, return_dict=True)
    print(f"Mean IoU {results['iou']:.4f}, loss {results['loss']:.5f}")


if __name__ == "__main__":
    main()
