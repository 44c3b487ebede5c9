"""What keepfit assumes of Keras and TensorFlow, none of which they document.

A failure here names the assumption of callbacks/training/internals.py that a new version breaks.
"""

from __future__ import annotations

import inspect
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.tensorflow import trainer
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops

from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data import seeds
from keepfit.callbacks.training.internals import randomness
from tests.training.trainings import BATCH, BATCHES, arrays, set_seed, small


class Recording(keras.callbacks.Callback):
    """A callback with the given functions as hooks."""

    def __init__(self, **hooks):
        super().__init__()
        for name, hook in hooks.items():
            setattr(self, name, hook)


def fit(model, *callbacks, epochs=2, **more):
    x, y = arrays()
    return model.fit(
        x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[*callbacks], **more
    )


def test_initial_epoch():
    """fit starts at the epoch that on_train_begin sets, and does not clear it."""
    model = small()
    assert hasattr(model, "_initial_epoch"), "Keras' models have lost _initial_epoch"
    assert model._initial_epoch is None, "_initial_epoch is no longer None at first"
    begin = Recording(on_train_begin=lambda _=None: internals.set_initial_epoch(model, 2))
    history = fit(model, begin, epochs=4, initial_epoch=1)
    assert history.epoch == [2, 3], "fit no longer reads _initial_epoch after on_train_begin"
    assert model._initial_epoch == 2, "fit now clears _initial_epoch itself"
    internals.set_initial_epoch(model, None)
    assert fit(model, epochs=4, initial_epoch=3).epoch == [3]


def test_epochs_are_skipped_as_a_whole():
    """With an initial epoch equal to `epochs`, fit calls on_train_end only."""
    model, seen = small(), []
    begin = Recording(
        on_train_begin=lambda _=None: internals.set_initial_epoch(model, 2),
        on_epoch_begin=lambda *_: seen.append("epoch"),
        on_train_end=lambda _=None: seen.append("end"),
    )
    fit(model, begin, epochs=2)
    assert seen == ["end"]


def test_train_function_is_read_for_every_batch():
    """A function that a hook assigns to model.train_function is called for the next batch."""
    model, calls = small(), []

    def replace(batch, logs=None):
        inner = model.train_function

        def counting(iterator):
            calls.append(batch)
            return inner(iterator)

        if not calls and batch == 1:
            model.train_function = counting

    fit(model, Recording(on_train_batch_end=replace), epochs=1)
    assert len(calls) == BATCHES - 2, "fit no longer reads model.train_function for every batch"


def test_train_function_may_return_logs_without_training():
    """fit accepts any logs from the train function; keepfit skips batches this way."""
    model, seen = small(), []
    model.make_train_function()
    model.train_function = lambda iterator: {"loss": 0.5}
    watch = Recording(on_train_batch_end=lambda batch, logs: seen.append((batch, dict(logs))))
    fit(model, watch, epochs=1)
    assert seen == [(batch, {"loss": 0.5}) for batch in range(BATCHES)]
    assert int(model.optimizer.iterations) == 0


def test_existing_train_function_is_kept():
    """Neither make_train_function nor fit replaces an existing train function."""
    model = small()
    model.make_train_function()
    function = model.train_function
    assert function is not None
    model.make_train_function()
    assert model.train_function is function, "make_train_function replaces an existing one"
    fit(model, epochs=1)
    assert model.train_function is function, "fit replaces an existing train function"


def test_train_function_gets_an_iterator():
    """The only argument is the epoch's tf.data iterator, the same one for all of its batches."""
    model, iterators = small(), []
    model.make_train_function()
    inner = model.train_function

    def watching(iterator):
        iterators.append(iterator)
        return inner(iterator)

    model.train_function = watching
    fit(model, epochs=2)
    assert all(isinstance(iterator, tf.data.Iterator) for iterator in iterators)
    assert len({id(iterator) for iterator in iterators}) == 2
    assert iterators[0] is iterators[BATCHES - 1]


def test_stop_iteration_ends_the_epoch():
    """A train function without data raises one of two errors, and so may one that replaces it."""
    model, seen = small(), []
    model.make_train_function()
    inner = model.train_function
    with pytest.raises((StopIteration, tf.errors.OutOfRangeError)):
        inner(iter(tf.data.Dataset.from_tensor_slices(arrays()).batch(BATCH).take(0)))

    def ending(iterator):
        if len(seen) == 2:
            raise StopIteration
        return inner(iterator)

    model.train_function = ending
    watch = Recording(on_train_batch_end=lambda batch, logs: seen.append(batch))
    history = fit(model, watch, epochs=1)
    assert seen == [0, 1]
    assert history.epoch == [0], "an epoch that ran out of data isn't completed any more"


def test_order_of_hooks():
    """Metrics are reset before on_epoch_begin, but only after on_test_begin."""
    source = inspect.getsource(trainer.TensorFlowTrainer.fit)
    model, seen = small(), []

    def total():
        return float(model.metrics[0].total)

    watch = Recording(
        on_train_begin=lambda _=None: seen.append("train begin"),
        on_epoch_begin=lambda *_: seen.append(("epoch begin", total() == 0)),
        on_test_begin=lambda _=None: seen.append(("test begin", total() == 0)),
        on_test_end=lambda _=None: seen.append("test end"),
        on_epoch_end=lambda *_: seen.append("epoch end"),
    )
    fit(model, watch, epochs=1, validation_data=arrays(BATCH))
    assert seen == [
        "train begin",
        ("epoch begin", True),
        ("test begin", False),
        "test end",
        "epoch end",
    ], source


def test_history_comes_after_the_callbacks_of_the_user():
    """History resets its epochs after our on_train_begin; its on_epoch_end is the last one."""
    model, seen = small(), []

    def look(*_):
        seen.append(list(getattr(model.history, "epoch", ["not begun"])))

    fit(model, Recording(on_train_begin=look, on_epoch_begin=look, on_epoch_end=look), epochs=2)
    assert seen == [["not begun"], [], [], [0], [0]], "History is no longer the last callback"


def test_history_is_on_the_model():
    """model.history is set before on_train_begin, and fit returns it."""
    model, found = small(), []
    history = fit(model, Recording(on_train_begin=lambda _=None: found.append(model.history)))
    assert found == [history]
    assert set(vars(history)) - set(vars(keras.callbacks.Callback())) == {"history", "epoch"}


def test_evaluation_within_fit_calls_the_same_callbacks():
    """Validation in fit calls the callbacks of fit; an evaluate call in a callback does not."""
    model, seen = small(), []
    watch = Recording(
        on_test_batch_end=lambda batch, logs=None: seen.append(batch),
        on_epoch_end=lambda *_: model.evaluate(*arrays(), verbose=0),
    )
    fit(model, watch, epochs=1, validation_data=arrays(BATCH), validation_batch_size=4)
    assert seen == [0, 1]


def test_optionals_stand_for_none():
    """Keras makes an Optional of each None in a batch, and converts it back for the train step.

    Before 3.11 it did neither: a batch with a None fails in Keras itself.
    """
    data = tf.data.Dataset.from_tensor_slices(np.ones((4, 4), "float32")).batch(2)
    spec = data.map(lambda x: (x, None)).element_spec
    assert spec[1] == tf.OptionalSpec(None) or spec[1] is None or "NoneTensor" in repr(spec[1])
    converts = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 11)
    assert hasattr(small(), "_autoconvert_optionals") == converts, "it handles optionals elsewhere"


def test_iterators_serialise():
    """An iterator's state is one tensor, under the same name in every iterator."""
    data = tf.data.Dataset.range(9).shuffle(4, seed=1)
    one, other = iter(data), iter(data)
    assert hasattr(one, "_serialize_to_tensors"), "iterators have lost _serialize_to_tensors"
    assert hasattr(one, "_restore_from_tensors"), "iterators have lost _restore_from_tensors"
    first, second = one._serialize_to_tensors(), other._serialize_to_tensors()
    assert len(first) == 1, "an iterator's state is no longer one tensor"
    assert first.keys() == second.keys(), "its name depends on the iterator"
    (state,) = first.values()
    assert state.dtype == tf.variant, "an iterator's state is no longer a variant"
    next(one)
    expected = [int(row) for row in one]
    other._restore_from_tensors(one._serialize_to_tensors())
    assert [int(row) for row in other] == []
    other._restore_from_tensors(first)
    next(other)
    assert [int(row) for row in other] == expected


def test_state_can_be_serialised_by_public_ops():
    """A state survives serialize_tensor and parse_tensor, and is immutable."""
    iterator = iter(tf.data.Dataset.range(9).shuffle(4, seed=1))
    state = internals.iterator_state(iterator)
    before = tf.io.serialize_tensor(state).numpy()
    expected = [int(row) for row in iterator]
    assert tf.io.serialize_tensor(state).numpy() == before, "a state changes with its iterator"
    internals.restore_iterator(iterator, tf.io.parse_tensor(before, tf.variant))
    assert [int(row) for row in iterator] == expected


def test_unsavable_iterators():
    """Iterators that can't be saved raise an error that we recognise; others have no state."""
    spec = tf.TensorSpec((), tf.int64)
    generated = tf.data.Dataset.from_generator(lambda: range(3), output_signature=spec)
    drawn = tf.data.Dataset.range(3).map(lambda x: tf.random.uniform([]))
    assert internals.iterator_state(iter(generated)) is None
    assert internals.iterator_state(iter(drawn)) is None
    assert internals.iterator_state(iter([1, 2])) is None


def test_dataset_of_an_iterator():
    """The options of an iterator's dataset tell whether its randomness is hidden from its state."""
    iterator = iter(tf.data.Dataset.range(3))
    assert hasattr(iterator, "_dataset"), "an iterator no longer knows its dataset"
    assert hasattr(iterator._dataset.options(), "experimental_external_state_policy")
    options = tf.data.Options()
    policy = tf.data.experimental.ExternalStatePolicy
    for value, hidden in ((policy.IGNORE, True), (policy.FAIL, False), (None, False)):
        if value is not None:
            options.experimental_external_state_policy = value
            iterator = iter(tf.data.Dataset.range(3).with_options(options))
        else:
            iterator = iter(tf.data.Dataset.range(3))
        assert internals.has_hidden_randomness(iterator) == hidden


def test_fit_counts_the_steps_of_its_iterator():
    """With more steps added to those that fit has counted, fit makes a new iterator earlier."""
    data = tf.data.Dataset.from_tensor_slices(arrays()).batch(BATCH)
    assert len(data) == BATCHES
    model, found = small(), []
    model.make_train_function()
    inner = model.train_function

    def watching(iterator):
        found.append(iterator)
        if len(found) == 1:
            internals.add_steps_seen(BATCHES - 1)
        return inner(iterator)

    model.train_function = watching
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(data, steps_per_epoch=BATCHES - 1, epochs=2, verbose=0)
    assert len(found) == BATCHES
    assert found[0] is not found[1]
    with pytest.raises(LookupError):
        internals.add_steps_seen(1)


def test_input_of_a_fit():
    """fit has its EpochIterator in a local variable, and this has Keras' data adapter."""
    found = []

    class Looking(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found.append(
                (
                    internals.input_adapter_of_fit(),
                    internals.shuffles_within_batches_of_fit(),
                    internals.py_dataset_of_fit(),
                )
            )

    class Items(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return arrays(BATCH)

    items, model = Items(), small()
    for data, options in (
        (arrays(), {}),
        (arrays(), {"shuffle": "batch"}),
        ((items,), {}),
        ((tf.data.Dataset.from_tensors(arrays()),), {}),
        (((batch for batch in [arrays()]),), {"steps_per_epoch": 1}),
    ):
        model.fit(*data, verbose=0, callbacks=[Looking()], **options)
    assert found == [
        ("ArrayDataAdapter", False, None),
        ("ArrayDataAdapter", True, None),
        ("PyDatasetAdapter", False, items),
        ("TFDatasetAdapter", False, None),
        ("GeneratorDataAdapter", False, None),
    ]


def test_callbacks_of_a_fit():
    """fit has its CallbackList in a local variable named `callbacks`."""
    found = []

    class Looking(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found.extend(internals.callback_list_of_fit().callbacks)

    looking, other = Looking(), keras.callbacks.TerminateOnNaN()
    small().fit(*arrays(), verbose=0, callbacks=[looking, other])
    assert {looking, other} <= set(found)


def test_callbacks_join_a_new_fit():
    """A fit's new list is announced before any callback in it has seen a hook; no other list is.

    A callback that is taken out of it is not called by Keras.
    """
    seen = []

    class Other(keras.callbacks.Callback):
        def set_model(self, model):
            seen.append("set_model")

        def on_train_begin(self, logs=None):
            seen.append("on_train_begin")

    class Joining(keras.callbacks.Callback):
        def joins_fit(self, fit):
            seen.append([callback for callback in fit.callbacks if isinstance(callback, Other)])
            fit.callbacks[:] = [self]

        def on_train_begin(self, logs=None):
            assert internals.callback_list_of_fit().callbacks[0] is self

    internals.announce_new_fits()
    model, before, after = small(), Other(), Other()
    model.fit(*arrays(), verbose=0, callbacks=[before, Joining(), after])
    assert seen == [[before, after]]
    model.evaluate(*arrays(), verbose=0, callbacks=[Joining(), after])
    keras.callbacks.CallbackList([Joining()], model=model)
    assert seen == [[before, after], "set_model"]


def test_names_in_a_state():
    """A dataset's keys in a state start with its iterator's path; a shuffle's seeds come first."""
    data = tf.data.Dataset.range(9).shuffle(4, seed=1).batch(2)
    state = tf.io.serialize_tensor(internals.iterator_state(iter(data))).numpy()
    assert b"::Shuffle@@" in state, "states have another format"
    (path,) = internals.seed_paths(state)
    assert path.endswith(b"::BatchV2::Shuffle")


def test_datasets_of_a_pipeline():
    """Shuffles and caches are found by their classes, anywhere in the pipeline."""
    shuffled = tf.data.Dataset.range(9).shuffle(4)
    both = tf.data.Dataset.zip(shuffled.cache(), shuffled.concatenate(shuffled)).batch(2)
    assert internals.count_shuffles(iter(both)) == 2, "the one below the cache is counted"
    assert internals.has_cache(iter(both))
    assert internals.count_shuffles(iter(both.repeat().shuffle(3))) == 3
    assert internals.count_shuffles(iter([1])) == 0
    assert not internals.has_cache(iter(shuffled))


def test_generator_of_eager_seeds():
    """With a global seed, the eager context has a Python generator that seeds eager ops."""
    tf.random.set_seed(3)
    rng = getattr(context.context(), "_rng", None)
    assert isinstance(rng, random.Random), "the context no longer has its generator in _rng"
    before = rng.getstate()
    tf.random.normal([])
    assert rng.getstate() != before, "eager random ops are no longer seeded from _rng"


def test_global_generator():
    """The global generator is a variable of a module, set by the public function."""
    assert hasattr(stateful_random_ops, "global_generator"), "TensorFlow keeps it elsewhere"
    generator = tf.random.get_global_generator()
    assert internals.global_generator() is generator
    assert isinstance(generator.state, tf.Variable)


def test_global_seed_generator():
    """Keras keeps it in its global state; set_random_seed removes it, from Keras 3.13 on."""
    set_seed(1)
    assert internals.global_seed_variable() is None
    keras.random.normal([])
    generator = global_state.get_global_attribute(randomness._GLOBAL_SEED_GENERATOR)
    assert generator is not None, "Keras keeps its global seed generator elsewhere"
    assert internals.global_seed_variable() is generator.state
    assert internals.make_global_seed_variable() is generator.state
    before = generator.state.numpy().tolist()
    keras.random.normal([])
    assert generator.state.numpy().tolist() != before, "keras.random no longer draws from it"


def test_monitor_flips_min_delta_once():
    """EarlyStopping negates min_delta when it first sees a metric; so we don't restore it."""
    early = keras.callbacks.EarlyStopping("loss", min_delta=0.5)
    fit(small(), early, epochs=1)
    assert early.min_delta == -0.5
    assert early.monitor_op is not None


def test_data_of_fit():
    """The data adapters of Keras still hold the input under these names."""
    seen = []
    hook = Recording(on_train_begin=lambda _=None: seen.append(internals.data_of_fit()))
    x, y = arrays()
    fit(small(), hook, epochs=0, validation_split=0.2)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    model = small()
    model.fit(dataset, epochs=0, callbacks=[hook], validation_data=dataset)
    model.fit(((a, b) for a, b in [(x, y)]), epochs=0, callbacks=[hook])
    own, of_dataset, of_generator = seen
    assert own.train[0] is not None
    assert (own.batch_size, own.rows, own.batches, own.shuffle) == (BATCH, 32, 4, True)
    assert len(own.validation[0]) == 8
    assert of_dataset.train is dataset
    assert of_dataset.validation[0] is dataset
    assert of_dataset.element_spec == dataset.element_spec
    assert of_generator.train is None


def test_the_parts_of_a_dataset():
    """tf.data's datasets still name their inputs, arrays, numbers and functions so."""
    source = tf.data.Dataset.from_tensor_slices(np.arange(4.0))
    table = tf.constant(np.arange(4.0))
    variable = tf.Variable(1.0)
    mapped = source.map(lambda x: x * 2 + table[1] + tf.cast(variable, tf.float64))
    batched = mapped.batch(2)
    assert internals.inputs_of_dataset(batched) == [mapped]
    assert internals.inputs_of_dataset(mapped) == [source]
    (array,) = internals.attributes_of_dataset(source)["_tensors"]
    assert list(array.numpy()) == [0, 1, 2, 3]
    assert int(internals.attributes_of_dataset(batched)["_batch_size"][0]) == 2
    ops = [op for op, _ in internals.functions_of_dataset(mapped)]
    assert {"array", "resource", "Mul"} <= set(ops)
    files = tf.data.TextLineDataset(["a", "b"])
    assert len(internals.inputs_of_dataset(files)) == 1
    ragged = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[1], [2, 3]]))
    assert internals.attributes_of_dataset(ragged) is None
    assert internals.fingerprint_of_dataset(ragged) == internals.fingerprint_of_dataset(ragged)


SEEDED = {
    "shuffle": lambda: tf.data.Dataset.range(30).shuffle(30, seed=1),
    "random": lambda: tf.data.Dataset.random(seed=1, rerandomize_each_iteration=True),
}


@pytest.mark.parametrize("kind", SEEDED)
def test_count_of_seeds(kind):
    """Seeds belong to the dataset; one of its iterators reads and sets their count."""
    seeded = SEEDED[kind]()
    batches = seeded.batch(30)

    def order():
        return next(iter(batches)).numpy().tolist()

    first = order()
    assert seeds.numbers_drawn(seeded) == 2, "an iterator no longer draws two numbers"
    seeds.set_numbers_drawn(seeded, 0)
    assert order() == first, "an iterator's state no longer sets the seeds of its dataset"
    assert seeds.numbers_drawn(seeded) == 2
    assert order() != first


@pytest.mark.parametrize("steps", [1, 3])
def test_traced_train_function(steps):
    """The graph of the train step is found in the train function, which uses the same trace."""
    model = small(steps_per_execution=steps)
    model.make_train_function()
    iterator = iter(tf.data.Dataset.from_tensor_slices(arrays()).batch(BATCH))
    graph = internals.trace_train_function(model.train_function, iterator)
    assert graph is not None, "Keras has renamed multi_step_on_iterator"
    model.train_function(iterator)
    assert internals.trace_train_function(model.train_function, iterator) is graph
    assert internals.random_ops_of_graph(graph) == [], "Keras' Dropout draws in a kernel now"


def test_iterators_of_a_strategy():
    """Their one worker knows its dataset, and can create its iterator again."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    data = tf.data.Dataset.range(8).shuffle(8, seed=1)
    iterator = iter(strategy.experimental_distribute_dataset(data.batch(2)))
    assert isinstance(iterator, tf.distribute.DistributedIterator)
    assert hasattr(iterator, "_cardinality"), "a strategy's iterator has lost its cardinality"
    assert not internals.is_endless(iterator)
    assert len(internals.distributed_datasets(iterator)) == 1
    assert internals.devices_of_distributed_iterator(iterator) == 1
    assert internals.seeded_datasets(internals.distributed_datasets(iterator)) == [data]
    first = next(iterator)
    internals.renew_distributed_iterator(iterator)
    assert len(list(iterator)) == 4, "it was not created again"
    internals.feed_distributed_iterator(iterator, tf.data.Dataset.from_tensors(first))
    assert [batch.numpy().tolist() for batch in iterator] == [first.numpy().tolist()]
    assert internals.distributed_datasets(iter(data)) == []
