"""The body of a request: the concatenation of buffers, however it is divided."""

import base64
import hashlib
import io

import pytest
from awscrt import checksums
from hypothesis import example, given
from hypothesis import strategies as st

from keepfit.callbacks.storage.s3 import body as bodies
from keepfit.callbacks.storage.s3 import multipart
from keepfit.callbacks.storage.s3.body import CHUNK, Body, combined
from keepfit.callbacks.storage.s3.multipart import MAX_PARTS, MIB, PART, part_size

GIB, TIB = 1 << 30, 1 << 40
LARGEST_OBJECT = 488 * TIB // 10
"""docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html: 48.8 TiB, in parts of up to 5 GiB."""

buffers = st.lists(st.binary(max_size=40), max_size=12)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Make chunks so small that a few bytes are many of them."""
    monkeypatch.setattr(bodies, "CHUNK", 7)


@st.composite
def parts(draw):
    """Draw a body that is a part of some buffers, and the bytes that it represents."""
    pieces = draw(buffers)
    whole = b"".join(pieces)
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, len(whole) + 3))
    return Body(pieces).part(start, end), whole[start:end]


@given(parts(), st.integers(0, 50))
def test_chunks_are_the_concatenation(part, position):
    """From any position, the bytes come in chunks that are neither empty nor too large."""
    body, expected = part
    position = min(position, len(expected))
    chunks = list(body.chunks(position))
    assert b"".join(chunks) == expected[position:]
    assert all(0 < len(chunk) <= bodies.CHUNK for chunk in chunks)
    assert body.size == len(body) == len(expected)


@given(parts(), st.integers(0, 50), st.integers(0, 50))
def test_part_of_a_part(part, start, length):
    """A part of a part ends where the outer part ends."""
    body, expected = part
    start = min(start, len(expected))
    found = body.part(start, start + length)
    assert b"".join(found.chunks()) == expected[start : start + length]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.none(), st.integers(-2, 30))),
        st.tuples(st.just("seek"), st.integers(0, 60), st.just(io.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(-5, 5), st.just(io.SEEK_CUR)),
        st.tuples(st.just("seek"), st.integers(-5, 5), st.just(io.SEEK_END)),
    ),
    max_size=12,
)


@given(parts(), actions)
def test_reads_like_a_file(part, actions):
    """Each read returns what BytesIO would; a seek stays within the bytes."""
    body, expected = part
    position = 0
    for name, *args in actions:
        if name == "seek":
            offset, whence = args
            position = max(0, min(len(expected), (0, position, len(expected))[whence] + offset))
            assert body.seek(offset, whence) == position
        else:
            file = io.BytesIO(expected)
            file.seek(position)
            assert body.read(*args) == file.read(*args)
            position = file.tell()
        assert body.tell() == position


@given(parts())
def test_digests_are_of_the_concatenation(part):
    """Digests cover the whole object, as S3 computes them, and do not move the position."""
    body, expected = part
    body.seek(3)
    at = body.tell()
    assert body.sha256() == base64.b64encode(hashlib.sha256(expected).digest()).decode()
    assert body.crc64() == checksums.crc64nvme(expected)
    assert body.tell() == at


def test_crc64_is_crc64_nvme():
    """The check value is that of CRC-64/NVME (reveng.sourceforge.io/crc-catalogue/all.htm)."""
    assert Body([b"1234", b"", b"56789"]).crc64() == 0xAE8B14860A799888


@given(buffers.filter(any), st.integers(1, 30))
@example([b"x" * 60], 7)
def test_combined_crc_of_parts_is_that_of_the_whole(pieces, step):
    """However an object is divided, the combined checksum is that of the whole."""
    whole = Body(pieces)
    cut = [whole.part(start, start + step) for start in range(0, whole.size, step)]
    found = combined([part.crc64() for part in cut], [part.size for part in cut])
    assert found == base64.b64encode(whole.crc64().to_bytes(8, "big")).decode()


@given(st.sampled_from(["B", "b", "h", "I", "d"]), st.integers(0, 9))
def test_buffers_of_any_item(kind, count):
    """Memory of any item type is sent as its bytes."""
    data = bytes(range(72))[: count * 8]
    body = Body([b"<", memoryview(data).cast(kind) if data else memoryview(b""), b">"])
    assert b"".join(body.chunks()) == b"<" + data + b">"


def test_chunks_are_not_copies():
    """The chunks are views of the given memory."""
    data = bytearray(b"x" * 20)
    chunks = list(Body([data]).chunks())
    data[:] = b"y" * 20
    assert b"".join(chunks) == b"y" * 20


def test_chunk_size():
    """Chunks are not so small that calls are costly, nor so large that a slow line times out."""
    assert 64 << 10 <= CHUNK <= 1 << 20


@given(st.integers(1, LARGEST_OBJECT))
@example(1)
@example(PART)
@example(PART + 1)
@example(MAX_PARTS * PART)
@example(MAX_PARTS * PART + 1)
@example(MAX_PARTS * (PART + MIB))
@example(MAX_PARTS * (PART + MIB) + 1)
@example(5 * TIB)
@example(LARGEST_OBJECT)
def test_parts_stay_within_the_limits(size):
    """No object has more than 10,000 parts, none of them below 5 MiB or above 5 GiB."""
    step = part_size(size)
    assert 5 * MIB <= step <= 5 * GIB
    assert -(-size // step) <= 10_000
    assert step % MIB == 0
    assert step == PART or -(-size // (step - MIB)) > 10_000, "no larger than needed"


def test_single_put_is_within_the_limit():
    """S3 accepts 5 GB (at least 5 * 10**9 bytes) in one request."""
    assert multipart.MAX_SINGLE_PUT <= 5 * 10**9


@given(buffers.filter(any), st.integers(1, 30))
def test_parts_are_the_object(pieces, step):
    """The parts follow each other without a gap, and only the last one is shorter."""
    whole = Body(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "part_size", lambda _: step)
        parts = list(multipart._parts(whole))
    assert b"".join(bytes(chunk) for part in parts for chunk in part.chunks()) == b"".join(pieces)
    assert {part.size for part in parts[:-1]} <= {step}
    assert 0 < parts[-1].size <= step
