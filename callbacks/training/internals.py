"""The private names of Keras and TensorFlow that keepfit uses, each with its reason.

Private names of a single callback class of Keras are in its adapter, in callbacks/adapters/. No
other file uses any (tests/test_rooms.py).
tests/training/test_internals.py fails when a new version changes one of them.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, ClassVar, Protocol, runtime_checkable

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.data.ops import cache_op, random_op, shuffle_op
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Make the current `fit` start at `epoch`; None restores the `initial_epoch` argument of `fit`.

    `fit` reads the attribute once, after `on_train_begin`; BackupAndRestore sets it in the same
    way. It has to be cleared, or the next `fit` of this model would skip its epochs as well.
    """
    model._initial_epoch = epoch


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the model and all its layers at any depth; Model.layers has only the top level."""
    return list(model._flatten_layers())


def add_steps_seen(steps: int) -> None:
    """Add `steps` to the count of steps that the calling `fit` has taken from its iterator.

    With `steps_per_epoch`, one iterator may serve several epochs; `fit` counts its steps, to create
    another one when all data has been read. The count is reachable only through a local variable
    of `fit`.
    """
    _local_of_fit("epoch_iterator")._steps_seen += steps


def callback_list_of_fit() -> keras.callbacks.CallbackList:
    """Return the list of all callbacks of the calling `fit`, which tells none about the others."""
    callbacks: keras.callbacks.CallbackList = _local_of_fit("callbacks")
    return callbacks


@runtime_checkable
class JoinsFits(Protocol):
    """A callback that takes other callbacks out of the list of a new `fit`, to call them itself."""

    def joins_fit(self, fit: keras.callbacks.CallbackList) -> None:
        """Called with the new list, before any hook of any callback in it."""


class CallListener(Protocol):
    """An object that learns of each call of `fit`, `evaluate` and `predict` of the process."""

    def fit_creates_list(self, fit: keras.callbacks.CallbackList) -> None:
        """Called with the list that a `fit` has created, before any hook of any callback in it."""

    def fit_uses_list(self, fit: keras.callbacks.CallbackList) -> None:
        """Called before `on_train_begin` of a list that the script has made for a `fit`."""

    def call_begins(self, method: str) -> None:
        """Called when "evaluate" or "predict" begins outside of `fit`."""


class KerasCalls:
    """Announces each `fit` to the callbacks that join it, and each call to listeners.

    Keras tells nobody of the list of callbacks that it creates. Its first call is to `set_model` of
    one callback after another, and TensorBoard writes files in it: too late for one that comes
    first in the list and is to be called in another way. So the list's own `set_model` is replaced,
    and `on_train_begin` for lists that the script has created.
    """

    _listeners: ClassVar[list[CallListener]] = []

    @classmethod
    @contextmanager
    def announced_to(cls, listener: CallListener) -> Iterator[None]:
        """Announce all calls of the process to `listener`, until the block ends."""
        announce_new_fits()
        cls._listeners.append(listener)
        try:
            yield
        finally:
            cls._listeners.remove(listener)

    @classmethod
    def list_is_created(cls, callbacks: keras.callbacks.CallbackList) -> None:
        """Called in the constructor of a list, before `set_model` of the callbacks in it."""
        method = _method_that_creates(callbacks)
        if method == "fit":
            for listener in list(cls._listeners):
                listener.fit_creates_list(callbacks)
            for callback in list(callbacks.callbacks):
                if isinstance(callback, JoinsFits):
                    callback.joins_fit(callbacks)
        elif method in ("evaluate", "predict"):
            for listener in list(cls._listeners):
                listener.call_begins(method)

    @classmethod
    def training_begins(cls, callbacks: keras.callbacks.CallbackList) -> None:
        """Called before `on_train_begin` of the callbacks in a list."""
        fit = next(_fits_on(sys._getframe()), None)
        if fit is not None and fit.f_locals.get("callbacks") is callbacks:
            for listener in list(cls._listeners):
                listener.fit_uses_list(callbacks)


@functools.cache
def announce_new_fits() -> None:
    """Make each `fit` call `joins_fit` of the callbacks that have it, from now on.

    Lists that the script, `evaluate` or `predict` create are left as they are.
    """
    set_model = keras.callbacks.CallbackList.set_model
    on_train_begin = keras.callbacks.CallbackList.on_train_begin

    @functools.wraps(set_model)
    def set_model_after_joining(callbacks: keras.callbacks.CallbackList, model: Any) -> None:
        KerasCalls.list_is_created(callbacks)
        set_model(callbacks, model)

    @functools.wraps(on_train_begin)
    def on_train_begin_after_joining(
        callbacks: keras.callbacks.CallbackList, logs: Mapping[str, Any] | None = None
    ) -> None:
        KerasCalls.training_begins(callbacks)
        on_train_begin(callbacks, logs)

    keras.callbacks.CallbackList.set_model = set_model_after_joining
    keras.callbacks.CallbackList.on_train_begin = on_train_begin_after_joining


def add_first(callbacks: keras.callbacks.CallbackList, callback: keras.callbacks.Callback) -> None:
    """Insert a callback as the first of a list that exists, as if `fit` had been given it.

    The list has decided in its constructor whether hooks of batches may be called in other threads;
    those of a callback that was not there may not.
    """
    callbacks.callbacks.insert(0, callback)
    callbacks._async_train = callbacks._async_test = callbacks._async_predict = False


def add_last(callbacks: keras.callbacks.CallbackList, callback: keras.callbacks.Callback) -> None:
    """Append a callback to a list that exists, after those that Keras adds; see add_first."""
    callbacks.callbacks.append(callback)
    callbacks._async_train = callbacks._async_test = callbacks._async_predict = False


def _method_that_creates(callbacks: keras.callbacks.CallbackList) -> str | None:
    """Return the name of Keras' method that is calling the list's constructor, if any is."""
    constructor = keras.callbacks.CallbackList.__init__.__code__
    frame: FrameType | None = sys._getframe()
    while frame and not (frame.f_code is constructor and frame.f_locals["self"] is callbacks):
        frame = frame.f_back
    caller = frame and frame.f_back
    if caller is None or not str(caller.f_globals.get("__name__", "")).startswith("keras."):
        return None
    return caller.f_code.co_name


def count_fits(thread: int) -> int:
    """Return how many calls of a model's `fit` are on the stack of a thread."""
    fits = _fits_on(sys._current_frames().get(thread))
    return sum("epoch_iterator" in frame.f_code.co_varnames for frame in fits)


def count_all_fits() -> int:
    """Return how many calls of a model's `fit` are under way in this process."""
    return sum(count_fits(thread) for thread in sys._current_frames())


def input_adapter_of_fit() -> str:
    """Return the class name of Keras' data adapter for the input of the calling `fit`."""
    return type(_local_of_fit("epoch_iterator").data_adapter).__name__


def shuffles_within_batches_of_fit() -> bool:
    """Return True if the calling `fit` was given arrays and shuffle="batch"."""
    adapter = _local_of_fit("epoch_iterator").data_adapter
    return getattr(adapter, "_shuffle", None) == "batch"


def py_dataset_of_fit() -> keras.utils.PyDataset | None:
    """Return the input of the calling `fit` if it is a PyDataset, which Keras reads by index."""
    return getattr(_local_of_fit("epoch_iterator").data_adapter, "py_dataset", None)


@dataclass(frozen=True)
class FitData:
    """The input of one `fit` call, as Keras holds it.

    Attributes:
        adapter: class name of Keras' data adapter.
        train: the nest of arrays, the dataset or the PyDataset; None for input of another kind.
        validation: `(x, y, sample_weight)`, of which x may be a dataset; None without validation.
        class_weight, steps_per_epoch, validation_steps, validation_freq: the arguments of `fit`.
        shuffle: the argument of `fit`, where Keras shuffles itself.
        batch_size, rows: as far as the adapter knows them.
        batches: batches in an epoch; None if unknown.
        steps_per_execution: batches that each call of the train function reads.
        element_spec: the structure of a batch, before it is distributed to replicas.
        validation_batch_size: the argument of `fit`, or the batch size that Keras takes instead.
    """

    adapter: str
    train: Any
    validation: tuple[Any, Any, Any] | None
    class_weight: Mapping[int, float] | None
    shuffle: bool | str | None
    batch_size: int | None
    rows: int | None
    batches: int | None
    steps_per_epoch: int | None
    steps_per_execution: int
    element_spec: Any
    validation_steps: int | None
    validation_batch_size: int | None
    validation_freq: Any


def data_of_fit() -> FitData:
    """Return the input of the calling `fit`; takes microseconds, and reads no data."""
    frame = _frame_of_fit("epoch_iterator")
    iterator = frame["epoch_iterator"]
    adapter = iterator.data_adapter
    dataset = undistributed(iterator._distributed_dataset)
    own = dataset if isinstance(dataset, tf.data.Dataset) else None
    given = [getattr(adapter, name, None) for name in ("_inputs", "py_dataset")]
    train = next((each for each in given if each is not None), None)
    is_dataset = type(adapter).__name__ == "TFDatasetAdapter"
    validation = None
    if frame.get("validation_data") is not None:
        validation = (frame["val_x"], frame["val_y"], frame["val_sample_weight"])
    return FitData(
        type(adapter).__name__,
        own if is_dataset else train,
        validation,
        frame["class_weight"],
        getattr(adapter, "_shuffle", getattr(adapter, "shuffle", None)),
        batch_size_of_dataset(own) if is_dataset else adapter.batch_size,
        getattr(adapter, "_num_samples", None),
        iterator.num_batches,
        iterator.steps_per_epoch,
        iterator.steps_per_execution,
        getattr(dataset, "element_spec", None),
        frame["validation_steps"],
        frame["validation_batch_size"] or frame["batch_size"],
        frame["validation_freq"],
    )


def undistributed(dataset: Any) -> Any:
    """Return the dataset from which a strategy has made a distributed one, else the same."""
    if isinstance(dataset, tf.distribute.DistributedDataset):
        return getattr(dataset, "_original_dataset", dataset)
    return dataset


def batch_size_of_dataset(dataset: Any) -> int | None:
    """Return the size of a pipeline's batches, if it has no branches after `batch`."""
    while isinstance(dataset, tf.data.Dataset):
        if type(dataset).__name__ in _BATCHES:
            return int(dataset._batch_size)
        inputs = dataset._inputs()
        dataset = inputs[0] if len(inputs) == 1 else None
    return None


_BATCHES = ("_BatchDataset", "_ParallelBatchDataset", "_PaddedBatchDataset")


def inputs_of_dataset(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """Return the datasets from which this one reads, that of the names of its files included."""
    names = getattr(dataset, "_filenames", None)
    return [*dataset._inputs(), *([names] if isinstance(names, tf.data.Dataset) else [])]


def fingerprint_of_dataset(dataset: tf.data.Dataset) -> int:
    """Return TensorFlow's fingerprint of a dataset and of everything that it reads from.

    It copies all arrays in it twice, at 10 s a GiB; so it is only for those that Python can't read.
    """
    with tf.device("CPU:0"):
        return int(tf.raw_ops.DatasetFingerprint(input_dataset=dataset._variant_tensor))


def attributes_of_dataset(dataset: tf.data.Dataset) -> dict[str, list[Any]] | None:
    """Return the numbers, texts and arrays that define this dataset beside its inputs.

    Seeds are not among them, nor the paths of caches, which may be temporary. None if the dataset
    has arrays that Python can't read.
    """
    attributes: dict[str, list[Any]] = {}
    if type(dataset).__name__ == "_VariantDataset":
        return None
    for name, value in vars(dataset).items():
        if name in _NOT_CONTENT or "seed" in name:
            continue
        leaves = tf.nest.flatten(value)
        if name == "_tensors" and any(leaf.dtype == tf.variant for leaf in leaves):
            return None
        if all(_is_readable(leaf) for leaf in leaves):
            attributes[name] = leaves
    return attributes


_NOT_CONTENT = ("_name", "_filename", "_path", "_variant_tensor_attr")


def _is_readable(value: Any) -> bool:
    if isinstance(value, tf.Tensor):
        return hasattr(value, "numpy") and value.dtype not in (tf.variant, tf.resource)
    return isinstance(value, bool | int | float | str | None)


def functions_of_dataset(dataset: tf.data.Dataset) -> Iterator[tuple[str, bytes | tf.Tensor]]:
    """Yield the ops of all functions of this dataset, each with its definition.

    The names that TensorFlow numbers within a process, seeds and the numbers of Python functions
    are left out. A captured array comes as "array", a variable or table as "resource".
    """
    graphs = [function.function.graph for function in dataset._functions()]
    for tensor, _ in (capture for graph in graphs for capture in graph.captures):
        if tensor.dtype in (tf.resource, tf.variant):
            yield "resource", b""
        elif hasattr(tensor, "numpy"):
            yield "array", tensor
    for graph in graphs:
        graphs.extend(function.graph for function in graph._functions.values())
        ops = graph.get_operations()
        numbers = {op.name: i for i, op in enumerate(ops)}
        yield from ((op.type, _definition(op, numbers)) for op in ops)


def _definition(op: tf.Operation, numbers: Mapping[str, int]) -> bytes:
    """Return what defines an op within its graph; names of ops are replaced by numbers."""
    definition = op.node_def
    definition.name = ""
    sources = [(numbers[each.op.name], each.value_index) for each in op.inputs]
    control = [numbers[each.name] for each in op.control_inputs]
    definition.input[:] = [str(sources), str(control)]
    for name in ("_gradient_op_type", "seed", "seed2", "token"):
        definition.attr.pop(name, None)
    for value in definition.attr.values():
        # To set a field makes it the value, so only those that are the value are touched.
        functions = [value.func] if value.HasField("func") else []
        functions += value.list.func if value.HasField("list") else []
        for function in functions:
            function.name = ""
    content: bytes = definition.SerializeToString(deterministic=True)
    return content


def loss_weights_of(model: keras.Model) -> Any:
    """Return the argument of `compile`; None if the model was not compiled by Keras' own method."""
    config = getattr(getattr(model, "_compile_config", None), "config", {})
    return config.get("loss_weights")


class FitCall:
    """One call of Keras' `fit`, in the thread that has made it.

    Keras tells nobody that a `fit` was left by an exception, so the thread's stack is looked at.
    The call is recognised by its list of callbacks, which Keras creates for it.
    """

    def __init__(self, thread: int, callbacks: keras.callbacks.CallbackList) -> None:
        self._thread = thread
        self._callbacks = weakref.ref(callbacks)

    @classmethod
    def current(cls) -> FitCall:
        """Return the call in which the calling code runs.

        Raises:
            LookupError: no `fit` is on the call stack.
        """
        return cls(threading.get_ident(), _local_of_fit("callbacks"))

    def is_running(self) -> bool:
        """Return True until the call has returned or was left by an exception. For any thread."""
        callbacks = self._callbacks()
        frames = _fits_on(sys._current_frames().get(self._thread))
        return callbacks is not None and any(
            frame.f_locals.get("callbacks") is callbacks for frame in frames
        )


def caller_of_fit() -> FrameType:
    """Return the frame that has called the innermost `fit`, outside of Keras.

    Keras wraps `fit` to filter tracebacks, so the caller is not the next frame.

    Raises:
        LookupError: no `fit` is on the call stack.
    """
    frame: FrameType | None = next(_fits_on(sys._getframe()), None)
    while frame and f"{frame.f_globals.get('__name__')}.".startswith("keras."):
        frame = frame.f_back
    if frame is None:
        raise LookupError("no Keras fit is on the call stack")
    return frame


def _local_of_fit(name: str) -> Any:
    """Return the local variable `name` of the Keras `fit` on the call stack.

    Raises:
        LookupError: no such `fit` is on the call stack.
    """
    return _frame_of_fit(name)[name]


def _frame_of_fit(name: str) -> Mapping[str, Any]:
    """Return all local variables of the Keras `fit` on the call stack that has one named `name`.

    Raises:
        LookupError: no such `fit` is on the call stack.
    """
    for frame in _fits_on(sys._getframe()):
        if name in (found := frame.f_locals):
            return found
    raise LookupError(f"no Keras fit with a local variable {name!r} is on the call stack")


def _fits_on(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of Keras' `fit` on a stack, the innermost first."""
    while frame:
        if _is_fit(frame):
            yield frame
        frame = frame.f_back


def _is_fit(frame: FrameType) -> bool:
    return frame.f_code.co_name == "fit" and frame.f_globals["__name__"].startswith("keras.")


def iterator_state(iterator: Any) -> tf.Tensor | None:
    """Return the iterator's state as an immutable variant tensor; None where it can't be saved.

    tf.train.Checkpoint makes the same call, but its public API writes files, which blocks the
    training thread for the serialisation as well: five times as long.
    """
    if not isinstance(iterator, tf.data.Iterator):
        return None
    try:
        (state,) = iterator._serialize_to_tensors().values()
    except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError):
        return None
    return state


def restore_iterator(iterator: Any, state: tf.Tensor) -> None:
    """Set the iterator to `state`.

    Raises:
        tf.errors.OpError: the state belongs to a different pipeline.
    """
    (name,) = iterator._serialize_to_tensors().keys()
    iterator._restore_from_tensors({name: state})


def seed_paths(state: bytes) -> frozenset[bytes]:
    """Return the paths of the datasets whose seeds for later epochs are in a serialised state.

    The seeds belong to the dataset, but only the state of an existing iterator contains them: the
    iterator of a shuffle below another one is created at the first batch, and a batch or map
    dataset releases its input as soon as that has ended. Each iterator writes its keys under its
    path, `Iterator::Root::Prefetch::BatchV2::Shuffle@@key`. Shuffles below a cache are left out, as
    in `count_shuffles`.
    """
    return frozenset(path for path in _SEEDS.findall(state) if b"Cache" not in path)


_SEEDS = re.compile(rb"(Iterator::[\w:\[\]]+)@@epoch_num_random_samples")


def count_shuffles(iterator: Any) -> int:
    """Count the datasets below the iterator that have seeds of their own.

    Not counted are those in functions, and those below a cache: once it is filled, they are not
    used again, and a resumed process fills it in the order of their first epoch, as the first
    attempt did.
    """
    return sum(
        isinstance(dataset, shuffle_op._ShuffleDataset) and cache is None
        for dataset, cache in _datasets_and_caches(getattr(iterator, "_dataset", None))
    )


def has_cache(iterator: Any) -> bool:
    """Return True if states of the iterator would contain everything in a cache."""
    return any(isinstance(d, cache_op.CacheDataset) for d in _datasets(iterator))


def _datasets(iterator: Any) -> list[Any]:
    """Return the iterator's dataset and all its inputs, each as often as it is used."""
    found = _datasets_and_caches(getattr(iterator, "_dataset", None))
    return [dataset for dataset, _ in found]


def _datasets_and_caches(dataset: Any) -> list[tuple[Any, Any]]:
    """Return a dataset and all its inputs, each with the outermost cache above it, or None."""
    found = [] if dataset is None else [(dataset, None)]
    for each, cache in found:
        if cache is None and isinstance(each, cache_op.CacheDataset):
            cache = each  # for the inputs of this one
        found.extend((source, cache) for source in each._inputs())
    return found


def reshuffling_datasets(dataset: Any) -> list[tuple[Any, Any]]:
    """Return the shuffles of a pipeline that have another order in each epoch, each one once.

    The second part of each item is the outermost cache above it; None if it is used without one.
    """
    found: dict[int, tuple[Any, Any]] = {}
    for each, cache in _datasets_and_caches(dataset):
        if isinstance(each, shuffle_op._ShuffleDataset) and each._reshuffle_each_iteration:
            _, before = found.get(id(each), (each, cache))
            found[id(each)] = (each, before and cache)
    return list(found.values())


def has_hidden_state(iterator: Any) -> bool:
    """Return whether functions of the iterator's pipeline have state that can't be saved.

    Those of the dataset that Keras builds from arrays are not meant: see has_hidden_randomness.
    """
    dataset = getattr(iterator, "_dataset", None)
    return not has_hidden_randomness(iterator) and bool(hidden_state_of_dataset(dataset))


def hidden_state_of_dataset(dataset: Any) -> list[str]:
    """Return the types of the ops in a pipeline's functions whose state can't be saved.

    Where such a function is read by the iterator itself, TensorFlow refuses to save the iterator.
    Below a shuffle or in a concatenation it does not, as long as nothing has been read from there.
    """
    graphs = [
        function.function.graph
        for each, _ in _datasets_and_caches(dataset)
        for function in each._functions()
    ]
    ops = {op.type for graph in _nested(graphs) for op in graph.get_operations() if _is_hidden(op)}
    return sorted(ops)


def _is_hidden(op: tf.Operation) -> bool:
    return op.type in _PYTHON_OPS or op.type.startswith(_CHANGING_OPS) or _is_random(op)


_PYTHON_OPS = ("PyFunc", "EagerPyFunc")
_GENERATOR_OPS = (
    "RngReadAndSkip",
    "RngSkip",
    "StatefulRandom",
    "StatefulStandardNormal",
    "StatefulTruncatedNormal",
    "StatefulUniform",
)
"""Prefixes of ops that draw from a tf.random.Generator, and change its state."""

_CHANGING_OPS = ("Assign", *_GENERATOR_OPS)
"""Prefixes of ops that change a variable: no checkpoint contains those of an input pipeline."""


def _is_random(op: tf.Operation) -> bool:
    """Return whether an op draws random numbers from a state that its kernel contains."""
    attributes = op.node_def.attr
    if "seed" not in attributes or "seed2" not in attributes:
        return False
    # The kernels of recurrent layers have seeds for a dropout, which Keras does not use.
    return not (op.type.startswith("CudnnRNN") and attributes["dropout"].f == 0)


def _nested(graphs: Iterable[Any]) -> list[Any]:
    """Return graphs and those of all functions that they call, each one once."""
    found = {id(graph): graph for graph in graphs}
    waiting = list(found.values())
    for graph in waiting:
        for function in graph._functions.values():
            inner = getattr(function, "graph", None)
            if inner is not None and id(inner) not in found:
                found[id(inner)] = inner
                waiting.append(inner)
    return waiting


def trace_train_function(train_function: Any, iterator: Any) -> tf.Graph | None:
    """Return the graph of the train step, traced but not run; None if it is not a graph.

    The first call of the train function uses the same trace. Keras' function decides by the type of
    its iterator what to call, so the traced function is reachable only through its closure.
    """
    if tf.config.functions_run_eagerly():
        return None
    names = getattr(getattr(train_function, "__code__", None), "co_freevars", ())
    cells = dict(zip(names, getattr(train_function, "__closure__", None) or (), strict=True))
    if cell := cells.get("multi_step_on_iterator"):
        train_function = cell.cell_contents
    if not isinstance(train_function, tf.types.experimental.PolymorphicFunction):
        return None
    if not isinstance(iterator, tf.data.Iterator | tf.distribute.DistributedIterator):
        return None
    graph: tf.Graph = train_function.get_concrete_function(iterator).graph
    return graph


def random_ops_of_graph(graph: tf.Graph) -> list[tf.Operation]:
    """Return the ops of a graph and its functions that have random state of their own."""
    return [op for each in _nested([graph]) for op in each.get_operations() if _is_random(op)]


def generator_ops_of_graph(
    graph: tf.Graph, known: Iterable[tf.random.Generator]
) -> list[tf.Operation]:
    """Return the ops of a graph and its functions that draw from a tf.random.Generator.

    Args:
        known: generators to leave out. If the one of an op can't be told, as with a strategy, it is
            taken for one of these.
    """
    handles = [generator.state.handle for generator in known]
    found = []
    for op in (op for each in _nested([graph]) for op in each.get_operations()):
        if op.type.startswith(_GENERATOR_OPS):
            handle = _captured(op.inputs[0])
            is_known = bool(handles) if handle is None else any(handle is one for one in handles)
            found += [] if is_known else [op]
    return found


def _captured(tensor: Any) -> Any:
    """Return the eager tensor that a graph has captured as `tensor`; None if that is unknown."""
    while tensor is not None and not hasattr(tensor, "numpy"):
        captures = getattr(tensor.graph, "captures", ())
        tensor = next((outer for outer, inner in captures if inner is tensor), None)
    return tensor


def _with_inputs(datasets: Iterable[Any]) -> list[Any]:
    """Return the datasets and all their inputs, each as often as it is used."""
    found = list(datasets)
    for dataset in found:
        found.extend(dataset._inputs())
    return found


def distributed_datasets(iterator: Any) -> list[tf.data.Dataset]:
    """Return the datasets that a strategy's iterator reads, one for each worker of this process.

    Other iterators have none.
    """
    if not isinstance(iterator, tf.distribute.DistributedIterator):
        return []
    return [worker._dataset for worker in iterator._iterators]


def renew_distributed_iterator(iterator: Any) -> None:
    """Replace what a strategy's iterator reads from by new iterators over the same datasets.

    `fit` keeps the iterator itself in a local variable of a generator function.
    """
    for worker in iterator._iterators:
        worker._make_iterator()


def feed_distributed_iterator(iterator: Any, source: tf.data.Dataset) -> None:
    """Make a strategy's iterator, in a process with one worker, read from another dataset."""
    (worker,) = iterator._iterators
    own, worker._dataset = worker._dataset, source
    worker._make_iterator()
    worker._dataset = own


def devices_of_distributed_iterator(iterator: Any) -> int:
    """Return the number of devices that share each batch of a strategy's iterator."""
    return sum(len(worker._devices) for worker in iterator._iterators)


def is_shuffle(dataset: Any) -> bool:
    """Return whether a dataset shuffles its input."""
    return isinstance(dataset, shuffle_op._ShuffleDataset)


def seeded_datasets(datasets: Iterable[Any]) -> list[Any]:
    """Return the datasets with a generator of seeds among these and their inputs, each once."""
    found = (d for d in _with_inputs(datasets) if isinstance(d, _SEEDED))
    return list({id(dataset): dataset for dataset in found}.values())


_SEEDED = (shuffle_op._ShuffleDataset, random_op._RandomDataset)


def is_seeded(dataset: Any) -> bool:
    """Return False if a dataset with a generator of seeds draws them from the machine's entropy."""
    return bool(int(dataset._seed) or int(dataset._seed2))


def draws_hidden_numbers(datasets: Iterable[Any]) -> bool:
    """Return True if one of the datasets is marked as `has_hidden_randomness` describes."""
    return any(_hides_randomness(dataset) for dataset in datasets)


def reads_unknown_datasets(datasets: Iterable[Any]) -> bool:
    """Return True if a dataset reads from one that Python does not know as its input.

    Its function may have captured one, and a dataset from a graph or another device has no inputs.
    """
    return any(
        type(dataset).__name__ in ("_VariantDataset", "_RemoteDataset")
        or any(
            tensor.dtype == tf.variant
            for function in dataset._functions()
            for tensor, _ in function.function.graph.captures
        )
        for dataset in _with_inputs(datasets)
    )


def can_be_saved(dataset: Any) -> bool:
    """Return True if iterators of the dataset have a state that can be saved."""
    return iterator_state(iter(dataset)) is not None


def caches_shuffled_rows(datasets: Iterable[Any]) -> bool:
    """Return True if the rows in a cache have an order that the seeds below it determine."""
    caches = (d for d in _with_inputs(datasets) if isinstance(d, cache_op.CacheDataset))
    return any(map(seeded_datasets, ([cache] for cache in caches)))


def probe(dataset: Any) -> tf.data.Iterator:
    """Return an iterator for a look at its state, of input that can't be saved too."""
    options = tf.data.Options()
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return iter(dataset.with_options(options))


def _hides_randomness(dataset: Any) -> bool:
    policy = dataset.options().experimental_external_state_policy
    return bool(policy == tf.data.experimental.ExternalStatePolicy.IGNORE)


def is_endless(iterator: Any) -> bool:
    """Return True if the dataset repeats for ever, so that no part of it is ever released.

    A strategy distributes batches by a dataset that does not tell; its iterator does.
    """
    if isinstance(iterator, tf.distribute.DistributedIterator):
        return bool(iterator._cardinality == tf.data.INFINITE_CARDINALITY)
    dataset = getattr(iterator, "_dataset", None)
    return dataset is not None and int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY


def has_hidden_randomness(iterator: Any) -> bool:
    """Return True if the dataset draws random numbers that its state does not contain.

    Keras marks the dataset that it builds from arrays in this way: the permutation of an epoch is
    drawn with the first batch, and is part of the state only from then on.
    """
    dataset = getattr(iterator, "_dataset", None)
    return dataset is not None and _hides_randomness(dataset)


def eager_seed_state() -> tuple[Any, ...] | None:
    """Return the state of the generator that seeds eager ops; None if no global seed was set."""
    rng = getattr(context.context(), "_rng", None)
    return None if rng is None else rng.getstate()


def set_eager_seed_state(state: tuple[Any, ...]) -> None:
    """Restore the state of the generator that seeds eager ops, if a global seed was set.

    Kernels that eager ops have left in the cache were seeded from the state before, so the cache
    is cleared.
    """
    if (rng := getattr(context.context(), "_rng", None)) is not None:
        rng.setstate(state)
        context.context().clear_kernel_cache()


def global_generator() -> tf.random.Generator | None:
    """Return TensorFlow's global generator; None if the script does not use it.

    The public function creates one if there is none, and raises an error with deterministic ops.
    """
    return stateful_random_ops.global_generator


_GLOBAL_SEED_GENERATOR = "global_seed_generator"
"""Keras has a constant of this name since 3.13; before that, two places had the literal."""


def global_seed_variable() -> keras.Variable | None:
    """Return the state of `keras.random`'s generator for calls without a seed; None if unused."""
    generator = global_state.get_global_attribute(_GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state


def make_global_seed_variable() -> keras.Variable:
    """Return the same state; create the generator if this process has not used it yet."""
    return keras.src.random.seed_generator.global_seed_generator().state


class VariableReads:
    """Calls a function when the value of one of Keras' variables is read.

    Keras reads a variable through one property, whoever asks: `numpy()`, a layer, a file writer. It
    is replaced while any object of this class is watching. A function that was traced earlier reads
    by itself: FinalState watches those of the model.
    """

    _watching: ClassVar[list[VariableReads]] = []
    _suspended: ClassVar[set[int]] = set()

    def __init__(self, variables: Iterable[Any], on_read: Callable[[], None]) -> None:
        self._variables = {id(variable): weakref.ref(variable) for variable in variables}
        self._on_read = on_read

    def start(self) -> None:
        """Start to watch."""
        if not self._watching:
            _OWNER_OF_VALUE.value = property(_watched_value)
        self._watching.append(self)

    def stop(self) -> None:
        """Stop watching, if it was watching."""
        if self in self._watching:
            self._watching.remove(self)
            if not self._watching:
                _OWNER_OF_VALUE.value = _VALUE

    @classmethod
    @contextmanager
    def suspended(cls) -> Iterator[None]:
        """Ignore the reads of this thread until the block ends: they are keepfit's own."""
        own = threading.get_ident()
        cls._suspended.add(own)
        try:
            yield
        finally:
            cls._suspended.discard(own)

    @classmethod
    def notify(cls, variable: Any) -> None:
        """Call the functions of those that watch this variable."""
        if threading.get_ident() in cls._suspended:
            return
        for reads in list(cls._watching):
            known = reads._variables.get(id(variable))
            if known and known() is variable:
                reads._on_read()


_OWNER_OF_VALUE: Any = next(kind for kind in keras.Variable.__mro__ if "value" in vars(kind))
_VALUE: Any = vars(_OWNER_OF_VALUE)["value"]


def _watched_value(variable: Any) -> Any:
    VariableReads.notify(variable)
    return _VALUE.fget(variable)
