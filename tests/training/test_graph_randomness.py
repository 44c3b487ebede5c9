"""Random operations in the graph of the train step are found without another trace."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from tests.training.trainings import (
    Training,
    assert_same,
    attempt,
    compiled,
    from_arrays,
    preempted,
    shuffled,
    whole,
)

TRACES: list[str] = []
"""Names of the layers whose `call` has run, one for each time."""


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):
    """The sampling layer of many tutorials."""

    def call(self, inputs):
        TRACES.append(self.name)
        return inputs + tf.random.normal(tf.shape(inputs))


class SeededNoise(keras.layers.Layer):
    """The same, drawn as Keras' own layers do."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(5)

    def call(self, inputs):
        TRACES.append(self.name)
        return inputs + keras.random.normal(tf.shape(inputs), seed=self.seeds)


class GeneratorNoise(keras.layers.Layer):
    """The same, drawn from a generator of TensorFlow, whose state is a variable."""

    def __init__(self):
        super().__init__()
        self.generator = tf.random.Generator.from_seed(5)

    def call(self, inputs):
        return inputs + self.generator.normal(tf.shape(inputs))


class NoisyStep(keras.Sequential):
    """A model whose own train step draws a number, as a GAN's does."""

    def train_step(self, data):
        x, y = data
        return super().train_step((x + tf.random.uniform([]), y))


def with_layer(layer, **compile_arguments):
    """Return a function that makes a model with a layer of this kind."""
    return lambda: compiled(
        [keras.Input((4,)), layer(), keras.layers.Dropout(0.3), keras.layers.Dense(3)],
        **compile_arguments,
    )


def unbuilt_with_noise():
    """Return a model that its first batch builds."""
    return compiled([Noise(), keras.layers.Dense(3)])


def noisy_step():
    """Return a model with a train step of its own."""
    model = NoisyStep([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def mirrored():
    """Return a model of a strategy with one replica."""
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        return with_layer(Noise)()


ONCE = {"epochs": 1}
NOISY = {
    "layer": with_layer(Noise),
    "several steps": with_layer(Noise, steps_per_execution=3),
    "compiled": with_layer(Noise, jit_compile=True),
    "unbuilt": unbuilt_with_noise,
    "mirrored": mirrored,
}


@pytest.mark.parametrize("name", NOISY)
def test_layer_is_named(tmp_path, name):
    """One warning names operation, layer, file and line; no Python code is traced again for it."""
    training = Training(NOISY[name], data=from_arrays, validated=False, fit=ONCE)
    TRACES.clear()
    whole(training)
    alone = len(TRACES)
    TRACES.clear()
    done = attempt(training, tmp_path)
    assert len(TRACES) == alone > 0
    (entry,) = done.named(events.RANDOM_STATE_HIDDEN)
    (operation,) = entry["operations"]
    assert operation.startswith("RandomStandardNormal in layer 'noise")
    assert "(test_graph_randomness.py, line " in operation
    assert operation in entry["reason"]


def test_train_step_is_named(tmp_path):
    """An operation outside of all layers is named by the function that contains it."""
    done = attempt(Training(noisy_step, validated=False, fit=ONCE), tmp_path)
    (entry,) = done.named(events.RANDOM_STATE_HIDDEN)
    assert entry["operations"][0].startswith(
        "RandomUniform in train_step (test_graph_randomness.py"
    )


def test_refused_before_the_first_batch(tmp_path, monkeypatch):
    """With --exact, no batch is trained."""
    monkeypatch.setenv("KEEPFIT_EXACT", "1")
    trained = []
    seen = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: trained.append(1))
    training = Training(with_layer(Noise), held=lambda: [seen], validated=False, fit=ONCE)
    with pytest.raises(Refused):
        attempt(training, tmp_path)
    assert trained == []


@pytest.mark.parametrize("layer", [SeededNoise, GeneratorNoise])
def test_state_in_variables_is_exact(tmp_path, layer, monkeypatch):
    """Generators whose state is a variable are kept: no warning, and the same result."""
    monkeypatch.setenv("KEEPFIT_EXACT", "1")
    training = Training(with_layer(layer), data=shuffled)
    expected = whole(training)
    preempted(training, tmp_path, "on_train_batch_end", 8)
    assert_same(attempt(training, tmp_path), expected)


def test_eager_operations_are_exact(tmp_path, monkeypatch):
    """With run_eagerly, the seeds of such operations are kept."""
    monkeypatch.setenv("KEEPFIT_EXACT", "1")
    training = Training(with_layer(Noise, run_eagerly=True), fit={"epochs": 2})
    expected = whole(training)
    preempted(training, tmp_path, "on_train_batch_end", 7)
    assert_same(attempt(training, tmp_path), expected)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_generator_outside_of_the_model_is_named(tmp_path, steps):
    """The state of a tf.random.Generator that no layer holds is not kept, unlike the global one."""
    tf.random.set_global_generator(tf.random.Generator.from_seed(5))
    generator = tf.random.Generator.from_seed(5)

    class Outside(keras.layers.Layer):
        def call(self, inputs):
            inputs += tf.random.get_global_generator().normal(tf.shape(inputs))
            return inputs + generator.normal(tf.shape(inputs))

    training = Training(with_layer(Outside, steps_per_execution=steps), validated=False, fit=ONCE)
    done = attempt(training, tmp_path)
    (entry,) = done.named(events.RANDOM_STATE_HIDDEN)
    (operation,) = entry["operations"]
    assert operation.startswith("RngReadAndSkip in layer 'outside")
