"""Text classification: from raw strings to a bidirectional GRU.

The reviews are put together from a small grammar; some of them say "not", so counting words is not
enough.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SUBJECTS = ["the plot", "the acting", "this film", "the music", "her first novel", "the ending"]
GOOD = ["wonderful", "moving", "funny", "clever", "beautiful", "gripping"]
BAD = ["dull", "clumsy", "boring", "predictable", "awful", "tedious"]
ADVERBS = ["", "really", "quite", "not", "never", "rather"]
FOLDER = Path("results/text")
SAMPLES = ["This film is really moving!", "The plot was never clever.", "Her first novel is dull"]


def write_reviews(count, rng):
    """Return reviews, and 1 for each that praises."""
    texts, labels = [], []
    for _ in range(count):
        good = rng.random() < 0.5
        adverb = rng.choice(ADVERBS)
        adjective = rng.choice(GOOD if good else BAD)
        verb = rng.choice(["is", "was", "seemed"])
        rest = rng.choice(["", "after all", "to me", "in 1999", "from start to end"])
        texts.append(f"{rng.choice(SUBJECTS).capitalize()} {verb} {adverb} {adjective} {rest}.")
        labels.append(int(good != (adverb in ("not", "never"))))
    return np.array(texts), np.array(labels)


class PrintSamples(keras.callbacks.Callback):
    """Shows after each epoch how the model rates a few sentences."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens

    def on_epoch_end(self, epoch, logs=None):
        ratings = self.model.predict(self.tokens, verbose=0)[:, 0]
        for text, rating in zip(SAMPLES, ratings, strict=True):
            print(f"    {rating:.3f}  {text}")


def make_model(vocabulary_size):
    """Return a classifier of integer tokens."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int64"),
            layers.Embedding(vocabulary_size, 16, mask_zero=True),
            layers.SpatialDropout1D(0.2),
            layers.Bidirectional(layers.GRU(12)),
            layers.Dropout(0.3),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01, clipnorm=1.0),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=0.05),
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )
    return model


def main():
    """Train on the tokens, then put the vectorization in front of the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    keras.utils.set_random_seed(7)
    FOLDER.mkdir(parents=True, exist_ok=True)

    texts, labels = write_reviews(1200, np.random.default_rng(7))
    vectorize = layers.TextVectorization(max_tokens=200, output_sequence_length=12)
    vectorize.adapt(texts[:1000])
    data = tf.data.Dataset.from_tensor_slices((texts, labels))
    train = data.take(1000).shuffle(1000, seed=7).batch(32)
    train = train.map(lambda x, y: (vectorize(x), y), num_parallel_calls=2).prefetch(2)
    validation = data.skip(1000).batch(100).map(lambda x, y: (vectorize(x), y))

    model = make_model(len(vectorize.get_vocabulary()))
    model.fit(
        train,
        epochs=options.epochs,
        validation_data=validation,
        verbose=2,
        callbacks=[
            keras.callbacks.EarlyStopping(
                "val_auc", mode="max", patience=2, restore_best_weights=True
            ),
            keras.callbacks.CSVLogger(FOLDER / "log.csv", separator=";"),
            PrintSamples(vectorize(np.array(SAMPLES))),
        ],
    )
    end_to_end = keras.Sequential([keras.Input((1,), dtype="string"), vectorize, model])
    ratings = end_to_end.predict(tf.constant(SAMPLES)[:, None], verbose=0)[:, 0]
    print("Final ratings:", ", ".join(f"{rating:.4f}" for rating in ratings))


if __name__ == "__main__":
    main()
