"""Pipelines that shuffle in two places: each row is still seen once in the interrupted epoch."""

from __future__ import annotations

from collections import Counter

import pytest
import tensorflow as tf

from tests.training.test_data import DEAR, FREE, Clock, DataTracker, Saved, everything, plain, take

FILES, ROWS, BATCH = 9, 10, 5


def files_and_rows(seed):
    """As TensorFlow's guides have it: the files are shuffled, and then their rows."""
    files = tf.data.Dataset.range(FILES).shuffle(FILES, seed=seed)
    read = files.interleave(lambda f: tf.data.Dataset.range(f * ROWS, (f + 1) * ROWS), 3)
    return read.shuffle(16, seed=seed).batch(BATCH)


def rows_and_batches(seed):
    """The rows are shuffled, and then the batches."""
    rows = tf.data.Dataset.range(FILES * ROWS).shuffle(9, seed=seed)
    return rows.batch(BATCH).shuffle(3, seed=seed)


@pytest.mark.parametrize("make", [files_and_rows, rows_and_batches])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("done", [3, 16])
@pytest.mark.parametrize("clock", [FREE, DEAR], ids=["cheap", "dear"])
def test_each_row_once(make, seed, epoch, done, clock):
    """No row is trained on twice and none is left out, wherever the epoch was interrupted."""
    tf.random.set_seed(None)
    dataset = make(seed)
    for _ in range(epoch):
        everything(dataset)
    iterator, tracker = iter(dataset), DataTracker(Clock(clock))
    seen = take(tracker, iterator, done)
    saved = Saved.of(tracker.position())
    iterator = iter(make(seed))
    saved.restored(iterator)
    seen += [plain(batch) for batch in iterator]
    assert Counter(row for batch in seen for row in batch) == Counter(range(FILES * ROWS))
