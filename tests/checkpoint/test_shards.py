"""Shards are safetensors files that any reader opens; how tensors are packed into them."""

import json
from itertools import groupby, pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load, load_file

from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.shards import (
    MIN_SHARED_SIZE,
    digest,
    pack_shards,
    stored_shape,
)
from keepfit.callbacks.checkpoint.snapshot import Tensor, array_bytes
from tests.checkpoint.samples import arrays_of, snapshot, tensor, trained

SHAPES = [(), (0,), (3,), (2, 0, 5), (2, 3, 4), (1, 1, 1)]
GROUPS = ["model", "frozen", "optimizer", "metrics", "state", "data"]


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def content(shard):
    return b"".join(shard.body)


def address(buffer):
    return np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]


@pytest.mark.parametrize("name", NUMPY_DTYPES)
def test_every_dtype_opens_in_the_safetensors_library(tmp_path, name):
    """Tensors of each type and shape, including empty ones and scalars, are read bit for bit."""
    random = np.random.default_rng(0)
    arrays = {}
    for shape in SHAPES:
        size = int(np.prod(shape)) * dtype_of(name).itemsize
        raw = random.integers(0, 2 if name == "bool" else 256, size).astype(np.uint8)
        arrays[f"t{len(arrays)}"] = raw.view(dtype_of(name)).reshape(shape)
    (shard,) = pack_shards([tensor(key, array) for key, array in arrays.items()], "checkpoint")
    path = tmp_path / "shard.safetensors"
    path.write_bytes(content(shard))
    with safe_open(path, "np") as file:
        assert set(file.keys()) == set(arrays)
        for key, array in arrays.items():
            found = file.get_slice(key)
            assert found.get_dtype() == NUMPY_DTYPES[name]
            assert found.get_shape() == list(array.shape)
    for key, found in raw_tensors(path).items():
        assert found == arrays[key].tobytes()
    if name not in ("complex64", "float8_e4m3fn", "float8_e5m2"):
        for key, found in load_file(path).items():
            assert (found.dtype, found.shape) == (arrays[key].dtype, arrays[key].shape)
            assert found.tobytes() == arrays[key].tobytes()


def raw_tensors(path):
    """Return the bytes of each tensor, read according to the format's description."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8:start])
    table.pop("__metadata__", None)
    return {
        key: raw[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
        for key, entry in table.items()
    }


def test_stored_shards_open_in_the_safetensors_library(store):
    """A commit writes safetensors files that contain the captured arrays."""
    manifest = trained(store, 7)
    root = store._root
    found = {}
    for path in sorted(root.rglob("*.safetensors")):
        found |= load_file(path)
    expected = arrays_of(7)
    assert set(expected) <= set(found)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()
    assert manifest.number == 1


def test_nothing_is_copied():
    """The buffers of a shard's body are the tensors' own memory; only the header is new."""
    arrays = [np.arange(20.0), np.arange(30, dtype=np.int8).reshape(5, 6), np.float32([[1]])]
    (shard,) = pack_shards([tensor(str(i), array) for i, array in enumerate(arrays)], "checkpoint")
    assert len(shard.body) == 1 + len(arrays)
    for buffer, array in zip(shard.body[1:], arrays, strict=True):
        assert address(buffer) == array.__array_interface__["data"][0]
        assert memoryview(buffer).nbytes == array.nbytes


@pytest.mark.parametrize("order", ["transposed", "strided", "reversed"])
def test_memory_in_another_order_is_copied(order):
    """An array that is not contiguous is stored in C order, according to its shape."""
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    array = {"transposed": base.T, "strided": base[::2, 1::3], "reversed": base[::-1]}[order]
    (shard,) = pack_shards([tensor("x", array)], "checkpoint")
    assert (load(content(shard))["x"] == array).all()


def test_big_endian_memory_keeps_its_values():
    """A shard is little-endian: an array in the other byte order keeps values, not bytes."""
    array = np.arange(5, dtype=">f4")
    (shard,) = pack_shards([tensor("x", array)], "checkpoint")
    assert (load(content(shard))["x"] == array).all()


def test_tensor_of_unknown_size():
    """The size of a tensor without a shape is that of its bytes, which are requested once."""
    calls = []
    data = Tensor("x", "data", "U8", None, lambda: calls.append(1) or memoryview(b"12345"))
    (shard,) = pack_shards([data], "checkpoint")
    assert calls == [1]
    assert load(content(shard))["x"].tobytes() == b"12345"
    assert stored_shape(data, 5) == (5,)
    assert [(start, size) for _, start, size in shard.tensors] == [(shard.size - 5, 5)]


@given(
    sizes=st.lists(st.tuples(st.sampled_from(GROUPS), st.integers(0, 300)), max_size=25),
    target=st.integers(1, 500),
)
def test_packing(sizes, target):
    """Each tensor is in one shard, in order; groups are apart; no shard could have held more."""
    tensors = [
        tensor(f"t{i}", np.full(size, i, np.uint8), group) for i, (group, size) in enumerate(sizes)
    ]
    shards = list(pack_shards(tensors, "checkpoint", target))
    packed = [t for shard in shards for t, _, _ in shard.tensors]
    assert packed == sorted(tensors, key=lambda t: t.group)
    for shard in shards:
        assert len({t.group for t, _, _ in shard.tensors}) == 1
        assert len(shard.tensors) == 1 or payload(shard) <= target
        whole = content(shard)
        assert shard.size == len(whole)
        assert shard.digest == digest([whole])
        for t, start, size in shard.tensors:
            assert whole[start : start + size] == bytes(t.host())
        assert int.from_bytes(whole[:8], "little") % 8 == 0
        assert set(load(whole)) == {t.name for t, _, _ in shard.tensors}
    for _, group in groupby(shards, key=lambda s: s.tensors[0][0].group):
        group = list(group)
        for one, following in pairwise(group):
            assert payload(one) + following.tensors[0][2] > target


def payload(shard):
    """Return the number of bytes of the shard's tensors."""
    return sum(size for _, _, size in shard.tensors)


def test_nothing_to_pack():
    """Without tensors there are no shards."""
    assert list(pack_shards([], "checkpoint")) == []


def test_equal_content_has_an_equal_digest():
    """A large shard depends neither on the checkpoint nor on the memory address of its content."""
    one, same = np.zeros(MIN_SHARED_SIZE, np.uint8), np.zeros(MIN_SHARED_SIZE, np.uint8)
    first, again = [next(pack_shards([tensor("x", a)], str(i))) for i, a in enumerate((one, same))]
    assert first.digest == again.digest
    assert content(first) == content(again)


@pytest.mark.parametrize(
    "other",
    [
        tensor("y", np.zeros(MIN_SHARED_SIZE, np.uint8)),
        tensor("x", np.zeros(MIN_SHARED_SIZE, np.int8)),
        tensor("x", np.zeros((1, MIN_SHARED_SIZE), np.uint8)),
        tensor("x", np.append(np.zeros(MIN_SHARED_SIZE - 1, np.uint8), np.uint8(1))),
    ],
    ids=["name", "type", "shape", "bit"],
)
def test_other_content_has_another_digest(other):
    """The digest covers name, type and shape as well as the bytes."""
    first = next(pack_shards([tensor("x", np.zeros(MIN_SHARED_SIZE, np.uint8))], "checkpoint"))
    assert next(pack_shards([other], "checkpoint")).digest != first.digest


def test_small_shards_are_not_shared():
    """Sharing small shards saves little; not sharing them limits damage to one checkpoint."""
    small = np.zeros(MIN_SHARED_SIZE - 1, np.uint8)
    one, two = [next(pack_shards([tensor("x", small)], key)) for key in ("one", "two")]
    assert one.digest != two.digest
    header = content(one)[8:400]
    assert b'"__metadata__":{"checkpoint":"one"}' in header


def test_order_of_the_groups_does_not_matter():
    """Tensors in another order of groups are packed into the same shards."""
    tensors = list(snapshot(1).tensors)
    mixed = sorted(tensors, key=lambda t: GROUPS.index(t.group))
    assert [s.digest for s in pack_shards(tensors, "c")] == [
        s.digest for s in pack_shards(mixed, "c")
    ]


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_digest_is_of_the_concatenation(buffers):
    """The digest does not depend on how the bytes are divided into buffers."""
    assert digest(buffers) == digest([b"".join(buffers)]) == digest([*buffers, b""])


def test_array_bytes_of_nothing():
    """An empty array has no bytes, whatever its shape and type."""
    for shape in ((0,), (3, 0), (0, 2)):
        for dtype in ("float32", "bool", ml_dtypes.bfloat16):
            assert bytes(array_bytes(np.empty(shape, dtype))) == b""
