"""Scripts for real drills: small trainings without a line of keepfit."""

PRELUDE = """
import keras, numpy as np, tensorflow as tf
x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
y = x.sum(1)

def build(*layers):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model
"""

EXACT = (
    PRELUDE
    + """
model = build(keras.layers.Dense(3), keras.layers.Dropout(0.3))
held = [
    keras.callbacks.CSVLogger("log.csv"),
    keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
    keras.callbacks.TensorBoard("board"),
]
data = {"x": x, "y": y, "batch_size": 8}
model.fit(**data, epochs=3, validation_data=(x[:16], y[:16]), callbacks=held)
model.compile("sgd", "mse")
history = model.fit(**data, epochs=2, verbose=2)
print("loss", history.history["loss"][-1])
print(model.evaluate(x, y))
"""
)
"""Two fits, validation, files, a bar on standard output."""

OWN_GENERATOR = (
    PRELUDE
    + """
rng = np.random.default_rng(5)

class Noise(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        kernel = self.model.layers[-1].kernel
        kernel.assign_add(rng.normal(size=kernel.shape).astype("float32"))

build().fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[Noise()])
"""
)
"""A generator in a global variable, from which a callback draws."""

UNSEEDED = PRELUDE + (
    """
z = np.random.default_rng().normal(size=(64, 4)).astype("float32")
build().fit(z, y, batch_size=8, epochs=2, verbose=0)
"""
)
"""Data that differ in each process."""

RANDOM_OPERATION = (
    PRELUDE
    + """
class Noise(keras.layers.Layer):
    def call(self, inputs, training=False):
        return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs

build(Noise()).fit(x, y, batch_size=8, epochs=2, verbose=0)
"""
)
"""A random operation of TensorFlow in a layer: its state is in the graph's kernels."""

FAULTY_KEEPFIT = (
    PRELUDE
    + """
from keepfit.callbacks.training import variables

assign = variables.assign_variables

def assign_without_momenta(found, names, arrays):
    assign([named for named in found if "momentum" not in named.path], names, arrays)

variables.assign_variables = assign_without_momenta
build().fit(x, y, batch_size=8, epochs=2, verbose=0)
"""
)
"""A fault is planted in keepfit: it does not restore a part of the optimizer."""
