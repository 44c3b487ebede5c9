"""Files of two runs: equal content is equal, whenever and under whichever name it was written."""

from __future__ import annotations

import json
import struct
import zipfile

import h5py
import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from keepfit.job.drill.compare.files import parts_of, parts_of_events, written_files
from keepfit.job.drill.folders import stamp_of


def h5(path, value, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/kernel", data=np.full(4, value), **options)


def keras_file(path, *, value=1.0, when="2026-01-01", day=1, address=1, units=3):
    """Write a file like Keras' own."""
    inner = path.with_suffix(".inner")
    h5(inner, value)
    layer = {"config": {"units": units}, "shared_object_id": address}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {
            "metadata.json": json.dumps({"keras_version": "3", "date_saved": when}),
            "config.json": json.dumps({"layers": [layer, {"shared_object_id": address}]}),
            "model.weights.h5": inner.read_bytes(),
        }.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, day, 0, 0, 0)), content)
    inner.unlink()


def event_file(path, values, *, wall_time=1.0):
    """Write scalars like TensorBoard's writer: pairs of a tag and a value."""
    with path.open("wb") as file:
        for step, (tag, value) in enumerate(values):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            record = Event(wall_time=wall_time, step=step, summary=summary).SerializeToString()
            file.write(struct.pack("<Q", len(record)) + bytes(4) + record + bytes(4))


def test_a_keras_file_without_times_and_addresses(tmp_path):
    """It is the same if only these differ."""
    one, two = tmp_path / "one.keras", tmp_path / "two.keras"
    keras_file(one)
    keras_file(two, when="2026-02-02", day=9, address=7)
    assert parts_of(one) == parts_of(two)


@pytest.mark.parametrize(
    ("change", "part"),
    [({"value": 2.0}, "model.weights.h5 layers/dense/kernel"), ({"units": 4}, "config.json")],
)
def test_a_part_of_a_keras_file_that_differs(change, part, tmp_path):
    """It is named."""
    one, two = tmp_path / "one.keras", tmp_path / "two.keras"
    keras_file(one)
    keras_file(two, **change)
    expected, found = parts_of(one), parts_of(two)
    assert [name for name in expected if expected[name] != found[name]] == [part]


def test_arrays_in_hdf5(tmp_path):
    """The arrays are compared, not how the file stores them."""
    h5(tmp_path / "a.weights.h5", 1.0)
    h5(tmp_path / "b.weights.h5", 1.0, chunks=(2,))
    h5(tmp_path / "c.weights.h5", 2.0)
    a, b, c = (parts_of(tmp_path / f"{name}.weights.h5") for name in "abc")
    assert (tmp_path / "a.weights.h5").read_bytes() != (tmp_path / "b.weights.h5").read_bytes()
    assert a == b
    assert a != c


def test_event_files_are_one_whatever_their_number(tmp_path):
    """Each attempt writes one of its own, with another time."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    values = [("loss", 3.0), ("loss", 2.0)]
    event_file(whole / "events.out.tfevents.100.host.1.0.v2", values)
    event_file(parts / "events.out.tfevents.99.host.1.0.v2", values[:1], wall_time=5.0)
    with (parts / "events.out.tfevents.100.host.2.0.v2").open("wb"):
        pass
    torn = parts / "events.out.tfevents.101.host.3.0.v2"
    event_file(torn, [("x", 0.0), ("loss", 2.0)])
    first = tmp_path / "first"
    event_file(first, [("x", 0.0)])
    torn.write_bytes(torn.read_bytes()[first.stat().st_size :] + b"\x09")
    expected = parts_of_events(whole.iterdir())
    assert list(expected) == ["loss at 0", "loss at 1"]
    assert parts_of_events(parts.iterdir()) == expected
    event_file(torn, [("loss", 9.0)])
    assert parts_of_events(parts.iterdir()) != expected


def test_lines_of_a_text(tmp_path):
    """Times are masked; the line that differs is named."""
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text("12:00:01 begin\nloss 1\n")
    two.write_text("13:14:15 begin\nloss 2\n")
    expected, found = parts_of(one), parts_of(two)
    assert [name for name in expected if expected[name] != found[name]] == ["line 2"]


@pytest.mark.parametrize("name", ["model.keras", "weights.h5", "data.npz", "state.bin"])
def test_a_file_that_is_not_what_its_name_says(name, tmp_path):
    """Its bytes are compared."""
    path = tmp_path / name
    path.write_bytes(b"\xff\x00no")
    first = parts_of(path)
    path.write_bytes(b"\xff\x00on")
    assert parts_of(path) != first


def test_only_what_was_written_is_compared(tmp_path):
    """What has been copied and is as it was is left out, and what is to be ignored."""
    for name in ("data.csv", "changed.csv", "new.csv", "train.log"):
        (tmp_path / name).write_text("1\n")
    (tmp_path / "logs").mkdir()
    event_file(tmp_path / "logs/events.out.tfevents.1.host.1.0.v2", [("loss", 1.0)])
    (tmp_path / "link.csv").symlink_to("data.csv")
    copied = {name: stamp_of(tmp_path / name) for name in ("data.csv", "changed.csv")}
    (tmp_path / "changed.csv").write_text("1\n2\n")
    found = written_files(tmp_path, copied, ["*.log"])
    assert list(found) == ["changed.csv", "logs/events", "new.csv"]
