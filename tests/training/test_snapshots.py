"""A snapshot keeps the variables' values while training continues: TensorFlow copies on write."""

import keras
import numpy as np
import pytest

from keepfit.callbacks.training import variables

ROWS, WORDS, VOCABULARY = 64, 20, 5000


def dense():
    layers = [keras.layers.Dense(256), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    return [keras.Input((WORDS,)), *layers, keras.layers.Dense(10, dtype="float32")]


def embedding():
    layers = [keras.layers.Embedding(VOCABULARY, 32), keras.layers.GRU(16)]
    return [keras.Input((WORDS,), dtype="int32"), *layers, keras.layers.Dense(10)]


SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
CASES = {
    "Adam": (dense, Adam, {}),
    "SGD": (dense, SGD, {}),
    "SGD with momentum": (dense, lambda: SGD(0.1, momentum=0.9), {}),
    "sparse updates, Adam": (embedding, Adam, {}),
    "sparse updates, SGD": (embedding, lambda: SGD(0.1), {}),
    "sparse updates, momentum": (embedding, lambda: SGD(0.1, momentum=0.9), {}),
    "jit_compile": (dense, Adam, {"jit_compile": True}),
    "run_eagerly": (dense, Adam, {"run_eagerly": True}),
}


@pytest.fixture(params=["float32", "mixed_bfloat16", "mixed_float16"])
def policy(request):
    """Set Keras' global dtype policy, and restore it afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def trained(case: str) -> tuple[keras.Model, object]:
    """Return a model after one step, and a function that takes another step."""
    layers, optimizer, options = CASES[case]
    model = keras.Sequential(layers())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(), loss, metrics=["accuracy"], **options)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, VOCABULARY, (ROWS, WORDS)), rng.integers(0, 10, ROWS)
    if layers is dense:
        x = x.astype("float32") / VOCABULARY
    step = lambda: model.train_on_batch(x, y)  # noqa: E731
    step()
    return model, step


@pytest.mark.parametrize("case", CASES)
def test_snapshot_stays_intact(case, policy):
    """No byte of a snapshot changes over further steps, while the variables themselves do."""
    model, step = trained(case)
    found = variables.find_variables(model)
    capture = variables.VariableReader(found)
    snapshot = capture()
    copies = [bytes(tensor.host()) for tensor in snapshot]
    now = [np.asarray(named.variable.numpy()).tobytes() for named in found]
    assert copies == now, "the snapshot differs from the variables"
    for _ in range(3):
        step()
    changed = [t.name for t, copy in zip(snapshot, copies, strict=True) if t.host() != copy]
    assert not changed
    has_changed = [n.variable.numpy().tobytes() != was for n, was in zip(found, now, strict=True)]
    assert sum(has_changed) > len(has_changed) / 3, "the steps did not change the variables"


def test_snapshot_is_not_a_copy():
    """Two snapshots of unchanged variables share memory with each other and with the variables."""
    model, _ = trained("Adam")
    capture = variables.VariableReader(variables.find_variables(model))
    once, again = (
        {t.name: np.frombuffer(t.host(), np.uint8).ctypes.data for t in capture()} for _ in range(2)
    )
    kernel = next(v for v in model.variables if v.path.endswith("kernel"))
    own = np.asarray(memoryview(kernel.value.read_value())).ctypes.data
    assert once == again
    assert own in once.values()
