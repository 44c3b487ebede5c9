"""Variables of a training: names, and building them before the first step."""

from __future__ import annotations

import resource
from collections import Counter

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from keepfit.callbacks.training import variables
from keepfit.callbacks.training.data import batch_spec
from keepfit.callbacks.training.matching.match import match_by_name
from tests.training.trainings import set_seed

layers = keras.layers


def compiled(model, **more):
    model.compile("adam", "mse", **more)
    return model


def sequential(*, built=True):
    parts = [layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(1)]
    return compiled(keras.Sequential([keras.Input((3,)), *parts] if built else parts))


def functional():
    one, other = keras.Input((3,), name="one"), keras.Input((2,), name="other")
    joined = layers.Concatenate()([layers.Dense(4)(one), layers.Dense(4)(other)])
    return compiled(keras.Model({"one": one, "other": other}, layers.Dense(1)(joined)))


def shared():
    """A model with one layer in two places, and with two equal layers."""
    one, other = keras.Input((3,)), keras.Input((3,))
    dense = layers.Dense(4)
    joined = layers.Add()([dense(one), dense(other)])
    return compiled(keras.Model((one, other), layers.Dense(1)(layers.Dense(4)(joined))))


def nested():
    inner = keras.Sequential([layers.Dense(4), layers.Dense(4)], name="inner")
    return compiled(keras.Sequential([keras.Input((3,)), inner, layers.Dense(1)]))


def frozen():
    model = sequential()
    model.layers[0].trainable = False
    return compiled(model)


class Subclassed(keras.Model):
    """A model that is built by its first batch, with its own train step, metric and variables."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)
        self.several = [layers.Dense(2), layers.Dense(1)]
        self.scale = self.add_weight(name="scale", initializer="ones")
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self.tracker = keras.metrics.Mean(name="own")

    def call(self, x, training=False):
        for layer in (self.dense, *self.several):
            x = layer(x)
        return x * self.scale

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.steps.assign_add(1)
        self.tracker.update_state(loss)
        return {"own": self.tracker.result()}


class Gan(keras.Model):
    """A model with two optimizers and its own metrics."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([layers.Dense(4), layers.Dense(3)])
        self.discriminator = keras.Sequential([layers.Dense(4), layers.Dense(1)])
        self.seeds = keras.random.SeedGenerator(1)
        self.losses_seen = {
            "generator": keras.metrics.Mean(name="generator"),
            "discriminator": keras.metrics.Mean(name="discriminator"),
        }

    def compile(self, **more):
        super().compile(**more)
        self.one_optimizer = keras.optimizers.Adam(1e-3)
        self.other_optimizer = keras.optimizers.Adam(1e-3)

    def train_step(self, data):
        real = data[0] if isinstance(data, tuple) else data
        noise = keras.random.normal((2, 2), seed=self.seeds)
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(noise)
            judged = self.discriminator(fake)
            loss = tf.reduce_mean((self.discriminator(real) - 1) ** 2 + judged**2)
            gain = tf.reduce_mean((judged - 1) ** 2)
        for part, optimizer, value, name in (
            (self.discriminator, self.one_optimizer, loss, "discriminator"),
            (self.generator, self.other_optimizer, gain, "generator"),
        ):
            weights = part.trainable_variables
            gradients = tape.gradient(value, weights)
            optimizer.apply_gradients(zip(gradients, weights, strict=True))
            self.losses_seen[name].update_state(value)
        return {name: metric.result() for name, metric in self.losses_seen.items()}


def gan(**more):
    model = Gan()
    model.compile(**more)
    return model


class OptimizersInADict(Gan):
    """A Gan with its optimizers in a dict."""

    def compile(self, **more):
        super().compile(**more)
        self.by_name = {"one": self.one_optimizer, "other": self.other_optimizer}
        del self.one_optimizer, self.other_optimizer

    def __getattr__(self, name):
        if name in ("one_optimizer", "other_optimizer"):
            return self.by_name[name.removesuffix("_optimizer")]
        return super().__getattr__(name)


def in_a_dict():
    model = OptimizersInADict()
    model.compile()
    return model


class CompiledParts(Gan):
    """A Gan whose submodels are compiled, each with its own optimizer."""

    def compile(self, **more):
        super().compile(**more)
        self.generator.compile(keras.optimizers.Adam(1e-3))
        self.discriminator.compile(keras.optimizers.Adam(1e-3))
        del self.one_optimizer, self.other_optimizer

    def __getattr__(self, name):
        if name in ("one_optimizer", "other_optimizer"):
            part = self.discriminator if name == "one_optimizer" else self.generator
            return part.optimizer
        return super().__getattr__(name)


def compiled_parts():
    model = CompiledParts()
    model.compile()
    return model


def ones(*shape):
    return np.ones(shape, "float32")


def with_labels():
    return tf.data.Dataset.from_tensors((ones(2, 3), ones(2, 1)))


def with_weights():
    return tf.data.Dataset.from_tensors((ones(2, 3), ones(2, 1), ones(2)))


def dicts():
    return tf.data.Dataset.from_tensors(({"one": ones(2, 3), "other": ones(2, 2)}, ones(2, 1)))


def pairs():
    return tf.data.Dataset.from_tensors(((ones(2, 3), ones(2, 3)), ones(2, 1)))


def only_features():
    return tf.data.Dataset.from_tensors(ones(2, 3))


def texts_of_different_lengths():
    x = tf.ragged.constant([[1, 2, 3], [4]], dtype=tf.int64)
    return tf.data.Dataset.from_tensors((x, ones(2, 1)))


def sparse():
    x = tf.sparse.from_dense(np.eye(2, 3, dtype="float32"))
    return tf.data.Dataset.from_tensors((x, ones(2, 1)))


class OfRagged(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding, self.dense = layers.Embedding(9, 4), layers.Dense(1)

    def call(self, x):
        return self.dense(tf.reduce_mean(self.embedding(x.to_tensor()), axis=1))


def with_metrics(**more):
    parts = [layers.Dense(4), layers.Dense(1)]
    metrics = ["mae", keras.metrics.MeanSquaredError(name="own"), keras.metrics.AUC(name="auc")]
    return compiled(keras.Sequential(parts), metrics=metrics, weighted_metrics=["mse"], **more)


BUILT_AS_BY_A_STEP = {
    "sequential": (sequential, with_labels),
    "without input": (lambda: sequential(built=False), with_labels),
    "functional": (functional, dicts),
    "shared layers": (shared, pairs),
    "nested": (nested, with_labels),
    "frozen": (frozen, with_labels),
    "metrics": (with_metrics, with_labels),
    "sample weights": (with_metrics, with_weights),
    "subclassed": (lambda: compiled(Subclassed()), with_labels),
    "two optimizers": (gan, only_features),
    "ragged": (lambda: compiled(OfRagged()), texts_of_different_lengths),
    "sparse": (lambda: compiled(keras.Sequential([layers.Dense(1)])), sparse),
    "eager": (lambda: with_metrics(run_eagerly=True), with_labels),
    "eager, subclassed": (lambda: compiled(Subclassed(), run_eagerly=True), with_labels),
    "eager, two optimizers": (lambda: gan(run_eagerly=True), only_features),
    "eager, ragged": (lambda: compiled(OfRagged(), run_eagerly=True), texts_of_different_lengths),
    "eager, sparse": (
        lambda: compiled(keras.Sequential([layers.Dense(1)]), run_eagerly=True),
        sparse,
    ),
    "several steps per call": (lambda: with_metrics(steps_per_execution=2), with_labels),
    "jit_compile": (lambda: with_metrics(jit_compile=True), with_labels),
}


def specs_of(model):
    return [named.spec for named in variables.find_variables(model)]


def assign(model, arrays):
    """Assign values by name."""
    names = {name: name for name in arrays}
    variables.assign_variables(variables.find_variables(model), names, arrays)


def groups_of(model):
    return {named.spec.name: named.group for named in variables.find_variables(model)}


def spec_after_storage(data):
    """Return the element spec as a checkpoint restores it."""
    return batch_spec.spec_from_json(batch_spec.spec_to_json(data.element_spec))


@pytest.mark.parametrize(("make", "data"), BUILT_AS_BY_A_STEP.values(), ids=BUILT_AS_BY_A_STEP)
def test_build(make, data):
    """build_variables creates the same names, types, shapes and order as training."""
    twin = make()
    twin.fit(data(), epochs=1, verbose=0)
    model = make()
    variables.build_variables(model, spec_after_storage(data()))
    assert specs_of(model) == specs_of(twin)
    assert groups_of(model) == groups_of(twin)
    assert match_by_name(specs_of(twin), specs_of(model)) is not None


@pytest.mark.parametrize("kind", ["without input", "metrics", "two optimizers", "subclassed"])
def test_build_changes_nothing(kind):
    """build_variables changes no value of a trained model's variables."""
    make, data = BUILT_AS_BY_A_STEP[kind]
    model = make()
    model.fit(data(), epochs=2, verbose=0)
    before = {n.spec.name: n.variable.numpy().tobytes() for n in variables.find_variables(model)}
    variables.build_variables(model, spec_after_storage(data()))
    assert {
        n.spec.name: n.variable.numpy().tobytes() for n in variables.find_variables(model)
    } == before


def test_training_after_build():
    """A model that was built first has the same metrics as one that was not."""
    make, data = BUILT_AS_BY_A_STEP["metrics"]
    losses = []
    for build in (False, True):
        set_seed(1)
        model = make()
        if build:
            variables.build_variables(model, spec_after_storage(data()))
        losses.append(model.fit(data(), epochs=2, verbose=0).history)
    assert losses[0].keys() == losses[1].keys()


@pytest.mark.parametrize(
    "kind", ["functional", "shared layers", "nested", "subclassed", "two optimizers", "metrics"]
)
def test_names_are_the_same_in_every_process(kind):
    """Names don't depend on Keras' process-wide numbers of layers, models, optimizers, metrics."""
    make, data = BUILT_AS_BY_A_STEP[kind]
    first, second = make(), make()
    for model in (first, second):
        variables.build_variables(model, data().element_spec)
    assert first.name != second.name or kind in ("subclassed", "two optimizers")
    assert specs_of(first) == specs_of(second)
    assert groups_of(first) == groups_of(second)


@pytest.mark.parametrize("kind", BUILT_AS_BY_A_STEP)
def test_each_variable_has_a_unique_name(kind):
    """Names are unique, a shared layer is found once, and no variable of Keras' is missing."""
    make, data = BUILT_AS_BY_A_STEP[kind]
    model = make()
    variables.build_variables(model, data().element_spec)
    found = variables.find_variables(model)
    repeated = [name for name, n in Counter(n.spec.name for n in found).items() if n > 1]
    assert not repeated
    ids = Counter(id(n.variable) for n in found)
    assert set(ids.values()) == {1}
    known = [*model.variables, *model.metrics_variables]
    known += model.optimizer.variables if model.optimizer else []
    assert {id(variable) for variable in known} <= set(ids)


def test_equal_names_are_told_apart_by_their_order():
    """The second of two variables with equal names is numbered."""
    model = compiled(keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.Dense(3)]))
    kernels = [
        s.name for s in specs_of(model) if s.name.startswith("model/") and "kernel" in s.name
    ]
    assert kernels == ["model/sequential/dense/kernel", "model/sequential/dense/kernel~2"]


def test_names_that_look_numbered():
    """A layer whose own name ends in a number does not collide with a numbered one."""
    parts = [layers.Dense(2, name=name) for name in ("dense", "dense_7", "dense_7~2", "dense~2")]
    model = compiled(keras.Sequential([keras.Input((2,)), *parts]))
    names = [spec.name for spec in specs_of(model)]
    assert len(set(names)) == len(names)


def test_frozen_layers_have_a_group_of_their_own():
    """Frozen variables have a shard that is uploaded once; freezing keeps their names."""
    groups = groups_of(frozen())
    assert groups["model/sequential/dense/kernel"] == "frozen"
    assert groups["model/sequential/dense/kernel~2"] == "model"
    free, unfrozen = groups_of(frozen()), groups_of(sequential())
    assert [n for n in free if n.startswith("model/")] == [
        n for n in unfrozen if n.startswith("model/")
    ]
    assert unfrozen["model/sequential/dense/kernel"] == "model"


def test_groups():
    """Optimizer and metrics have their own groups: they change at other rates than the model."""
    make, data = BUILT_AS_BY_A_STEP["without input"]
    model = make()
    variables.build_variables(model, data().element_spec)
    groups = groups_of(model)
    assert {name.split("/")[0] for name, group in groups.items() if group == "optimizer"} == {
        "optimizer"
    }
    assert {group for name, group in groups.items() if name.startswith("metrics/")} == {"metrics"}
    assert any("seed_generator" in name for name in groups)
    assert any("moving_mean" in name for name in groups)


def test_variables_of_tensorflow():
    """A tf.Variable that is an attribute of the model is found."""
    assert "model/steps" in groups_of(compiled(Subclassed()))


@pytest.mark.parametrize("make", [gan, in_a_dict, compiled_parts])
def test_every_optimizer_is_found(make):
    """All optimizers of a model are found: attributes, in a dict, or those of submodels."""
    model = make()
    model.fit(only_features(), epochs=1, verbose=0)
    found = {id(named.variable) for named in variables.find_variables(model)}
    for optimizer in (model.one_optimizer, model.other_optimizer):
        assert len(optimizer.variables) > 2
        assert {id(variable) for variable in optimizer.variables} <= found


def test_variables_of_tensorflow_in_a_layer():
    """A tf.Variable that is an attribute of a layer takes part in training, so it is found."""

    class Counting(layers.Layer):
        def __init__(self):
            super().__init__()
            self.count = tf.Variable(0.0, trainable=False, name="count")

        def call(self, x):
            self.count.assign_add(1.0)
            return x

    counting = Counting()
    model = compiled(keras.Sequential([keras.Input((3,)), counting, layers.Dense(1)]))
    assert any(named.variable is counting.count for named in variables.find_variables(model))


def test_assign():
    """Every variable is restored to the same bytes, whatever its type."""
    make, data = BUILT_AS_BY_A_STEP["subclassed"]
    model, other = make(), make()
    for each in (model, other):
        each.fit(data(), epochs=2, verbose=0)
    arrays = {n.spec.name: n.variable.numpy() for n in variables.find_variables(model)}
    assign(other, arrays)
    for named in variables.find_variables(other):
        assert named.variable.numpy().tobytes() == arrays[named.spec.name].tobytes()


def test_assign_half_precision():
    """bfloat16 variables, which NumPy itself does not support, are restored, too."""
    make = lambda: compiled(  # noqa: E731
        keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="bfloat16")])
    )
    model, other = make(), make()
    capture = variables.VariableReader(variables.find_variables(model))
    types = {"BF16": ml_dtypes.bfloat16, "F32": np.float32, "I64": np.int64, "U32": np.uint32}
    arrays = {t.name: np.frombuffer(t.host(), types[t.dtype]).reshape(t.shape) for t in capture()}
    assign(other, arrays)
    for restored, saved in zip(
        variables.find_variables(other), variables.find_variables(model), strict=True
    ):
        assert restored.variable.numpy().tobytes() == saved.variable.numpy().tobytes()


def peak():
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_capture_takes_no_memory():
    """Three snapshots of 100 MiB of variables take less than 10 MiB of memory."""
    model = keras.Sequential([keras.Input((5120,)), layers.Dense(5120)])
    model.compile("sgd", "mse")
    capture = variables.VariableReader(variables.find_variables(model))
    filled = [np.ones(1 << 27, np.uint8)]
    del filled
    before = peak()
    filler = np.ones(bytes_below_peak(before), np.uint8)
    baseline = peak()
    snapshots = [capture() for _ in range(3)]
    views = [tensor.host() for snapshot in snapshots for tensor in snapshot]
    assert sum(view.nbytes for view in views) > 3 * 100 * 2**20
    assert peak() - baseline < 10 * 2**20
    addresses = [np.frombuffer(view, np.uint8).ctypes.data for view in views]
    kernel = model.layers[0].kernel.value.read_value()
    assert np.asarray(memoryview(kernel)).ctypes.data in addresses
    assert len(set(addresses)) == len(addresses) // 3
    assert filler.size


def bytes_below_peak(peak_bytes):
    """Return the size of an array that fills memory to its peak, so that more raises the peak."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[1]) * resource.getpagesize()
    return max(peak_bytes - now, 0) + 2**20


def test_capture_detects_other_variables():
    """An added or replaced variable needs a new VariableReader."""
    model = sequential()
    capture = variables.VariableReader(variables.find_variables(model))
    assert capture.reads(variables.find_variables(model))
    assert not capture.reads(variables.find_variables(sequential()))
    assert not capture.reads(variables.find_variables(model)[1:])


def test_unsupported_variables():
    """Variables that no checkpoint can store are listed by name, and do not stop the training."""

    class Words(layers.Layer):
        def __init__(self):
            super().__init__()
            self.words = [tf.Variable(["a"], name="words")]
            self.table = tf.Variable([1.0], shape=[None], name="table")

        def call(self, x):
            return x

    words = Words()
    model = compiled(keras.Sequential([keras.Input((3,)), words, layers.Dense(1)]))
    assert variables.unsupported_variables(model) == ["words:0", "table:0"]
    supported = [named.variable for named in variables.find_variables(model)]
    assert len(supported) > 2
    assert not any(v is words.words[0] or v is words.table for v in supported)
