"""The position in the data: saved after any batch, it restores exactly the batches that follow."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data.position import (
    LATER,
    START,
    DataChanged,
    IteratorState,
    iterator_states,
)
from keepfit.callbacks.training.data.tracker import DataTracker, StateRefresh
from tests.rotation import rotating

ROWS, BATCH, BATCHES = 90, 5, 18


def rows():
    return tf.data.Dataset.range(ROWS)


def mapped():
    shuffled = rows().shuffle(10, seed=3)
    return shuffled.map(lambda x: x * 2, num_parallel_calls=2).batch(BATCH).prefetch(2)


def same_order():
    return rows().shuffle(ROWS, seed=3, reshuffle_each_iteration=False).batch(BATCH)


def of_unknown_length():
    return rows().shuffle(10, seed=3).filter(lambda x: x % 3 > 0).batch(BATCH).prefetch(2)


def interleaved():
    files = tf.data.Dataset.range(5).shuffle(5, seed=1)

    def read(file):
        return tf.data.Dataset.range(file * 100, file * 100 + 16)

    return files.interleave(read, cycle_length=3, num_parallel_calls=2).batch(BATCH)


def mixed():
    parts = [rows().shuffle(9, seed=1), tf.data.Dataset.range(100, 140).shuffle(9, seed=2)]
    return tf.data.Dataset.sample_from_datasets(parts, [0.5, 0.5], seed=4).batch(BATCH)


def cached():
    return rows().map(lambda x: x + 1).cache().shuffle(10, seed=3).batch(BATCH)


def repeated():
    return rows().shuffle(10, seed=3).repeat(2).batch(BATCH).prefetch(2)


def bucketed():
    ragged = rows().shuffle(10, seed=3).map(lambda x: tf.range(x % 7))
    return ragged.ragged_batch(BATCH)


def grouped():
    return (
        rows()
        .shuffle(10, seed=3)
        .group_by_window(
            key_func=lambda x: x % 2, reduce_func=lambda _, window: window.batch(3), window_size=3
        )
    )


def files_and_rows():
    """As in TensorFlow's guides: the files are shuffled, and then their rows."""
    files = tf.data.Dataset.range(9).shuffle(9, seed=1)
    read = files.interleave(lambda f: tf.data.Dataset.range(f * 10, f * 10 + 10), 3)
    return read.shuffle(16, seed=3).batch(BATCH)


def rows_and_batches():
    return rows().shuffle(9, seed=3).batch(BATCH).shuffle(3, seed=3).prefetch(2)


def twice_and_cached():
    return rows().shuffle(9, seed=3).cache().shuffle(9, seed=4).batch(BATCH)


def cached_and_shuffled_as_a_whole():
    """As in the image tutorials: the buffer of the second shuffle holds everything."""
    return rows().shuffle(ROWS, seed=3).batch(BATCH).cache().shuffle(1000, seed=4).prefetch(2)


def shuffled_and_cached():
    return rows().shuffle(9, seed=3).cache().batch(BATCH)


def shuffled_and_repeated():
    return rows().shuffle(9, seed=3).repeat(2).batch(BATCH).shuffle(3, seed=4)


def endless():
    return rows().shuffle(10, seed=3).repeat().batch(BATCH).prefetch(2)


def endless_in_files():
    return interleaved().unbatch().repeat().batch(BATCH)


def adapted(**arguments: Any):
    adapter = ArrayDataAdapter(np.arange(ROWS), np.arange(ROWS), batch_size=BATCH, **arguments)
    return adapter.get_tf_dataset()


def arrays():
    tf.random.set_seed(5)
    return adapted(shuffle=True)


def arrays_in_order():
    return adapted(shuffle=False)


def generated():
    spec = tf.TensorSpec((), tf.int64)
    return tf.data.Dataset.from_generator(lambda: range(ROWS), output_signature=spec).batch(BATCH)


FINITE = [
    mapped,
    same_order,
    of_unknown_length,
    interleaved,
    mixed,
    cached,
    repeated,
    bucketed,
    grouped,
    arrays,
    arrays_in_order,
    generated,
    files_and_rows,
    rows_and_batches,
    twice_and_cached,
    cached_and_shuffled_as_a_whole,
    shuffled_and_cached,
    shuffled_and_repeated,
]
INFINITE = [endless, endless_in_files]


def plain(batch):
    """Return a batch as nested lists, for comparison."""
    return tf.nest.map_structure(
        lambda t: t.to_list() if isinstance(t, tf.RaggedTensor) else t.numpy().tolist(), batch
    )


class Clock:
    """A clock that advances by a fixed number of seconds at each reading."""

    def __init__(self, seconds: float) -> None:
        self._ticks = itertools.count(0, seconds)

    def __call__(self) -> float:
        return next(self._ticks)


FREE, COSTLY = 0.0, 1.0
"""Seconds per clock reading: a state costs no time, or so much that it is never refreshed."""


@dataclass
class Saved:
    """A position as a checkpoint stores it."""

    states: dict[str, bytes]
    plain: dict[str, Any]

    @classmethod
    def of(cls, position) -> Saved:
        arrays = {t.name: np.frombuffer(t.host(), "u1") for t in position.tensors()}
        assert all(t.group == "data" and t.dtype == "U8" for t in position.tensors())
        return cls(iterator_states(arrays), position.plain())

    def restored(self, iterator, steps=1) -> DataTracker:
        tracker = DataTracker()
        tracker.observe(iterator)
        tracker.restore(self.states, self.plain, steps)
        return tracker


def take(tracker, iterator, count):
    """Consume up to `count` batches as training does, and return them."""
    batches = []
    tracker.observe(iterator)
    for batch in itertools.islice(iterator, count):
        batches.append(plain(batch))
        tracker.advance()
    return batches


def counts(position):
    return position.since_start, position.since_later


def everything(dataset):
    return [plain(batch) for batch in dataset]


SOME = st.integers(0, BATCHES)


@pytest.mark.parametrize("make", rotating(FINITE))
@settings(max_examples=10)
@given(
    epoch=st.integers(0, 2),
    done=st.integers(0, 30),
    earlier=st.none() | SOME,
    clock=st.sampled_from([FREE, COSTLY]),
    always=st.booleans(),
    serialised_later=st.booleans(),
)
@example(epoch=0, done=0, earlier=None, clock=FREE, always=True, serialised_later=True)
@example(epoch=1, done=0, earlier=None, clock=COSTLY, always=False, serialised_later=True)
@example(epoch=1, done=1, earlier=None, clock=COSTLY, always=True, serialised_later=True)
@example(epoch=1, done=100, earlier=3, clock=COSTLY, always=True, serialised_later=False)
@example(epoch=0, done=100, earlier=1, clock=COSTLY, always=False, serialised_later=False)
def test_finite_data(make, epoch, done, earlier, clock, always, serialised_later):
    """The rest of the epoch and the next two epochs equal those of an uninterrupted iteration."""
    dataset = make()
    tracker = DataTracker(clock=Clock(clock))
    for _ in range(epoch):
        take(tracker, iter(dataset), 100)
        iter(dataset)
    iterator = iter(dataset)
    if earlier is not None and earlier <= done:
        take(tracker, iterator, earlier)
        tracker.position(StateRefresh.IF_CHEAP)
        take(tracker, iterator, done - earlier)
    else:
        take(tracker, iterator, done)
    tracker.observe(iterator)
    if not tracker.can_be_saved:
        take(tracker, iterator, 1)
    position = tracker.position(StateRefresh.ALWAYS if always else StateRefresh.IF_CHEAP)
    saved = None if serialised_later else Saved.of(position)
    expected = rest_and_more(iterator, dataset)
    saved = saved or Saved.of(position)

    again = make()
    iterator = iter(again)
    saved.restored(iterator)
    assert rest_and_more(iterator, again) == expected


def rest_and_more(iterator, dataset):
    """Return the rest of an epoch and the next two; as in `fit`, one more iterator follows each."""
    epochs = [[plain(batch) for batch in iterator]]
    for _ in range(2):
        iter(dataset)
        epochs.append(everything(dataset))
    return epochs


@pytest.mark.parametrize("make", INFINITE)
@settings(max_examples=12)
@given(
    done=st.integers(0, 40),
    earlier=st.none() | st.integers(0, 30),
    clock=st.sampled_from([FREE, COSTLY]),
    always=st.booleans(),
)
def test_infinite_data(make, done, earlier, clock, always):
    """One iterator serves all epochs, and resumes from any of their batches."""
    tracker, iterator = DataTracker(clock=Clock(clock)), iter(make())
    if earlier is not None and earlier <= done:
        take(tracker, iterator, earlier)
        tracker.position(StateRefresh.IF_CHEAP)
        take(tracker, iterator, done - earlier)
    else:
        take(tracker, iterator, done)
    saved = Saved.of(tracker.position(StateRefresh.ALWAYS if always else StateRefresh.IF_CHEAP))
    expected = [plain(batch) for batch in itertools.islice(iterator, 20)]
    iterator = iter(make())
    saved.restored(iterator)
    assert [plain(batch) for batch in itertools.islice(iterator, 20)] == expected


def unseeded():
    return rows().shuffle(10).map(lambda x: (x, x)).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def unseeded_arrays():
    return adapted(shuffle=True)


def unseeded_arrays_in_batches():
    return adapted(shuffle="batch")


@pytest.fixture
def without_seed():
    """Unset the global seed, as in a script that sets none."""
    tf.random.set_seed(None)


UNSEEDED = [unseeded, unseeded_arrays, unseeded_arrays_in_batches]


@pytest.mark.parametrize("make", UNSEEDED)
@settings(max_examples=12)
@given(done=st.integers(1, BATCHES), always=st.booleans(), clock=st.sampled_from([FREE, COSTLY]))
def test_unseeded_data(without_seed, make, done, always, clock):
    """Each row is seen once in the interrupted epoch, and once in the epoch after it."""
    dataset = make()
    everything(dataset)
    tracker, iterator = DataTracker(clock=Clock(clock)), iter(dataset)
    seen = take(tracker, iterator, done)
    saved = Saved.of(tracker.position(StateRefresh.ALWAYS if always else StateRefresh.IF_CHEAP))
    expected = [plain(batch) for batch in iterator]
    again = make()
    iterator = iter(again)
    saved.restored(iterator)
    rest = [plain(batch) for batch in iterator]
    assert row_numbers(seen + rest) == [*range(ROWS)]
    assert rest == expected or make is unseeded_arrays_in_batches
    assert row_numbers(everything(again)) == [*range(ROWS)]


@settings(max_examples=12)
@given(done=st.integers(1, BATCHES), always=st.booleans())
def test_unseeded_endless_data(without_seed, done, always):
    """Each row is seen once in the interrupted pass over the rows."""
    tracker, iterator = DataTracker(clock=Clock(COSTLY)), iter(unseeded().repeat())
    seen = take(tracker, iterator, done)
    saved = Saved.of(tracker.position(StateRefresh.ALWAYS if always else StateRefresh.IF_CHEAP))
    iterator = iter(unseeded().repeat())
    saved.restored(iterator)
    rest = [plain(batch) for batch in itertools.islice(iterator, BATCHES - done)]
    assert row_numbers(seen + rest) == [*range(ROWS)]


def row_numbers(batches):
    for x, y in batches:
        assert x == y
    return sorted(row for x, _ in batches for row in x)


@given(st.lists(st.integers(0, BATCHES), min_size=2, max_size=4))
def test_repeated_interruptions(stops):
    """A position saved after a restore is as exact as the first one."""
    expected = everything(mapped())
    batches, saved = [], None
    for stop in stops:
        iterator = iter(mapped())
        tracker = saved.restored(iterator) if saved else DataTracker()
        batches += take(tracker, iterator, stop)
        saved = Saved.of(tracker.position(StateRefresh.IF_CHEAP))
    iterator = iter(mapped())
    saved.restored(iterator)
    assert batches + [plain(batch) for batch in iterator] == expected


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_several_steps_per_call(calls):
    """Each call of the train function consumes three batches, the last call the remaining ones."""
    tracker, iterator = DataTracker(clock=Clock(COSTLY)), iter(mapped())
    tracker.observe(iterator)
    for _ in range(calls):
        list(itertools.islice(iterator, 3))
        tracker.advance()
    saved = Saved.of(tracker.position(StateRefresh.IF_CHEAP))
    assert LATER not in saved.states
    expected = [plain(batch) for batch in iterator]
    iterator = iter(mapped())
    saved.restored(iterator, steps=3)
    assert [plain(batch) for batch in iterator] == expected


def test_unsavable_input_is_named_once():
    """One warning says that this input will be read again on resume; no state of it is stored."""
    tracker = DataTracker()
    iterator = iter(generated())
    with capture_logs() as logs:
        take(tracker, iterator, 2)
        take(tracker, iterator, 2)
    assert [log["event"] for log in logs] == [events.DATA_UNSAVABLE]
    position = tracker.position(StateRefresh.ALWAYS)
    assert position.tensors() == []
    assert position.since_start == 4


def test_python_generator():
    """An iterator that isn't from tf.data can't be saved, but its batches can be counted."""
    tracker = DataTracker()
    take_plain = iter([1, 2, 3])
    tracker.observe(take_plain)
    assert tracker.element_spec is None
    next(take_plain)
    tracker.advance()
    position = tracker.position(StateRefresh.ALWAYS)
    assert position.tensors() == []
    again = iter([1, 2, 3])
    Saved.of(position).restored(again)
    assert list(again) == [2, 3]


def test_replayed_batches_are_logged():
    """The log has the number of batches that were read again, and no line if there were none."""
    tracker, iterator = DataTracker(clock=Clock(COSTLY)), iter(endless())
    take(tracker, iterator, 3)
    with capture_logs() as logs:
        Saved.of(tracker.position(StateRefresh.IF_CHEAP)).restored(iter(endless()))
        Saved.of(tracker.position(StateRefresh.ALWAYS)).restored(iter(endless()))
    assert [(log["event"], log["batches"]) for log in logs] == [(events.DATA_REPLAYED, 3)]


def concatenated():
    """Two shuffled parts: the second part's shuffle starts when the first part has ended."""
    parts = rows().take(40), rows().skip(40)
    return parts[0].shuffle(9, seed=1).concatenate(parts[1].shuffle(9, seed=2)).batch(BATCH)


def shuffled_in_a_function():
    """The shuffle of the rows is created per file, inside a function: its seeds can't be saved."""
    files = tf.data.Dataset.range(9).shuffle(9, seed=1)
    read = files.interleave(lambda f: tf.data.Dataset.range(f, f + 10).shuffle(9, seed=2))
    return read.shuffle(16, seed=3).batch(BATCH)


@pytest.mark.parametrize(("make", "saved"), [(concatenated, 1), (shuffled_in_a_function, 0)])
def test_lost_seeds_are_named_once(make, saved):
    """If a state can't hold all seeds, one warning says so."""
    with capture_logs() as logs:
        tracker, dataset = DataTracker(), make()
        for _ in range(2):
            take(tracker, iter(dataset), 100)
    assert [log["event"] for log in logs] == [events.DATA_ORDER_UNSAVABLE]
    assert f"of 2 shuffles in this input, only {saved} can be saved" in logs[0]["reason"]


@pytest.mark.parametrize("done", [0, 1, 7, 9, 17])
def test_each_row_once_though_seeds_are_lost(done):
    """At least the interrupted epoch is exact, if its last state could be saved."""
    dataset, tracker = concatenated(), DataTracker()
    take(tracker, iter(dataset), 100)
    iterator = iter(dataset)
    seen = take(tracker, iterator, done)
    saved = Saved.of(tracker.position(StateRefresh.ALWAYS))
    iterator = iter(concatenated())
    tracker = saved.restored(iterator)
    seen += take(tracker, iterator, 1)
    saved = Saved.of(tracker.position(StateRefresh.ALWAYS))
    iterator = iter(concatenated())
    saved.restored(iterator)
    seen += [plain(batch) for batch in iterator]
    assert sorted(row for batch in seen for row in batch) == [*range(ROWS)]


class Stopwatch:
    """A clock that the test sets by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_costly_state_is_not_saved_again_too_soon(monkeypatch):
    """A state that took 2 s to save is saved again after 200 s, or at once with ALWAYS."""
    clock = Stopwatch()
    taken = []

    def slow(iterator):
        clock.now += 2.0
        taken.append(clock.now)
        return IteratorState(internals.iterator_state(iterator))

    monkeypatch.setattr(IteratorState, "of", slow)
    tracker, iterator = DataTracker(clock=clock), iter(mapped())
    take(tracker, iterator, 2)
    assert len(taken) == 1
    clock.now += 199.0
    position = tracker.position(StateRefresh.IF_CHEAP)
    assert len(taken) == 1
    assert counts(position) == (2, 2)
    clock.now += 1.5
    position = tracker.position(StateRefresh.IF_CHEAP)
    assert len(taken) == 2
    assert counts(position) == (2, 0)
    take(tracker, iterator, 1)
    assert counts(tracker.position(StateRefresh.IF_CHEAP)) == (3, 1)
    assert len(taken) == 2
    assert counts(tracker.position(StateRefresh.ALWAYS)) == (3, 0)
    assert len(taken) == 3


def test_position_is_independent_of_later_batches():
    """A position keeps the states of its own moment, even if they are serialised much later."""
    dataset = mapped()
    tracker, iterator = DataTracker(clock=Clock(FREE)), iter(dataset)
    take(tracker, iterator, 2)
    at_once = Saved.of(tracker.position(StateRefresh.IF_CHEAP))
    position = tracker.position(StateRefresh.IF_CHEAP)
    take(tracker, iterator, 4)
    everything(dataset)
    assert position.plain() == at_once.plain
    expected, actual = [], []
    for saved, batches in ((at_once, expected), (Saved.of(position), actual)):
        again = iter(mapped())
        saved.restored(again)
        batches.extend(plain(batch) for batch in again)
    assert actual == expected


def test_new_iterator_resets_the_position():
    """With each epoch's iterator, the counts restart at zero and the start state is saved again."""
    dataset = mapped()
    tracker = DataTracker(clock=Clock(FREE))
    iterator = iter(dataset)
    assert tracker.observe(iterator)
    assert not tracker.observe(iterator)
    take(tracker, iterator, 3)
    first = Saved.of(tracker.position(StateRefresh.IF_CHEAP))
    assert tracker.observe(iter(dataset))
    second = Saved.of(tracker.position(StateRefresh.IF_CHEAP))
    assert (second.plain["since_start"], second.plain["since_later"]) == (0, 0)
    assert LATER not in second.states
    assert second.states[START] != first.states[START], "the seeds are those of the first epoch"


@pytest.mark.parametrize(
    "changed",
    [
        lambda: rows().batch(BATCH),
        lambda: rows().shuffle(10, seed=3).batch(BATCH),
        lambda: mapped().map(lambda x: x + 1),
        lambda: mapped().take(2),
        lambda: mapped().repeat(2),
    ],
)
@pytest.mark.parametrize("always", [False, True])
def test_changed_pipeline(changed, always):
    """A pipeline of other datasets, or one that ends too early, is refused as changed."""
    tracker, iterator = DataTracker(clock=Clock(COSTLY)), iter(mapped())
    take(tracker, iterator, 4)
    saved = Saved.of(tracker.position(StateRefresh.ALWAYS if always else StateRefresh.IF_CHEAP))
    with pytest.raises(DataChanged) as caught:
        saved.restored(iter(changed()))
    text = str(caught.value)
    assert text == "its pipeline consists of other steps" or text.startswith("the data ends after")


def test_shortened_generator():
    """The error names the batches that are there, and the batches that were trained on."""
    tracker, iterator = DataTracker(), iter(generated())
    take(tracker, iterator, 5)
    saved = Saved.of(tracker.position(StateRefresh.IF_CHEAP))
    with pytest.raises(DataChanged, match=r"^the data ends after 2 of 5 batches$"):
        saved.restored(iter(generated().take(2)))


def state_of(iterator):
    return IteratorState.of(iterator).content


OF_ARRAYS = [arrays, arrays_in_order, generated]


def test_a_state_at_the_end_has_no_shuffle():
    """The state of an exhausted iterator isn't stored: it has lost the seeds of the next epoch."""
    data = rows().shuffle(20, seed=1).batch(4)
    iterator = iter(data)
    start = state_of(iterator)
    list(iterator)
    assert internals.seed_paths(start)
    assert not internals.seed_paths(state_of(iterator))
    tracker, iterator = DataTracker(clock=Clock(FREE)), iter(data)
    take(tracker, iterator, 100)
    assert LATER not in Saved.of(tracker.position(StateRefresh.IF_CHEAP)).states


def test_keras_marks_shuffled_arrays():
    """Shuffled arrays draw their order with the first batch; other data hides no randomness."""
    assert internals.has_hidden_randomness(iter(arrays()))
    assert not internals.has_hidden_randomness(iter(arrays_in_order()))
    assert not internals.has_hidden_randomness(iter(mapped()))
    assert not internals.has_hidden_randomness(iter([1]))
    assert keras.backend.backend() == "tensorflow"
