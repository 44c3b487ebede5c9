"""Time series forecasting: an LSTM predicts the temperature six hours ahead.

The weather is made up: seasons, days, and a wind that lags behind the pressure.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import layers

PAST, FUTURE = 24, 6
FOLDER = Path("results/timeseries")


def make_weather(hours, rng):
    """Return temperature, pressure and wind for each hour, shape (hours, 3)."""
    time = np.arange(hours)
    pressure = np.cumsum(rng.normal(size=hours))
    pressure -= np.convolve(pressure, np.full(200, 1 / 200), "same")
    wind = np.roll(pressure, 5) * 0.5 + rng.normal(size=hours)
    seasons = 10 * np.sin(2 * np.pi * time / 600)
    days = 4 * np.sin(2 * np.pi * time / 24)
    temperature = 9 + seasons + days + 0.3 * pressure + rng.normal(scale=0.5, size=hours)
    return np.stack([temperature, pressure, wind], axis=1).astype("float32")


def windows(series, start, end, **options):
    """Return a dataset of windows of the past, each with the temperature that follows."""
    return keras.utils.timeseries_dataset_from_array(
        series[start : end - FUTURE],
        targets=series[start + PAST + FUTURE - 1 : end, 0],
        sequence_length=PAST,
        batch_size=64,
        **options,
    )


def main():
    """Train, and compare the forecast with that of "as it is now"."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--units", type=int, default=16)
    options = parser.parse_args()
    keras.utils.set_random_seed(3)
    FOLDER.mkdir(parents=True, exist_ok=True)

    weather = make_weather(2400, np.random.default_rng(3))
    split = 1800
    mean, spread = weather[:split].mean(axis=0), weather[:split].std(axis=0)
    scaled = (weather - mean) / spread
    train = windows(scaled, 0, split, shuffle=True, seed=3)
    validation = windows(scaled, split, len(scaled))

    model = keras.Sequential(
        [
            keras.Input((PAST, weather.shape[1])),
            layers.LSTM(options.units, recurrent_dropout=0.1),
            layers.Dense(1),
        ]
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.01, decay_steps=options.epochs * 28)
    model.compile(keras.optimizers.Adam(schedule), loss="mse", metrics=["mae"])
    weights = FOLDER / "best.weights.h5"
    history = model.fit(
        train,
        epochs=options.epochs,
        validation_data=validation,
        verbose=2,
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", min_delta=0.001, patience=3),
            keras.callbacks.ModelCheckpoint(
                weights, "val_loss", save_weights_only=True, save_best_only=True, verbose=1
            ),
            keras.callbacks.CSVLogger(FOLDER / "log.csv"),
        ],
    )
    model.load_weights(weights)
    _, error = model.evaluate(validation, verbose=0)
    naive = np.abs(scaled[split + PAST + FUTURE - 1 :, 0] - scaled[split + PAST - 1 : -FUTURE, 0])
    print(f"{len(history.epoch)} epochs, mean errors in degrees: ", end="")
    print(f"LSTM {error * spread[0]:.3f}, as it is now {naive.mean() * spread[0]:.3f}")


if __name__ == "__main__":
    main()
