"""A body's bytes: the concatenation of its buffers, however it is looked at."""

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.storage.s3 import multipart
from callbacks.storage.s3.body import CHUNK, Body, combined

BUFFERS = st.lists(st.binary(max_size=40), max_size=8)
MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


@given(BUFFERS, st.integers(0, 200), st.integers(0, 200))
def test_chunks_are_the_bytes(buffers, start, length):
    """From any position, and of any part: never a byte more or less, and never an empty chunk."""
    whole = b"".join(buffers)
    body = Body(buffers)
    assert body.size == len(body) == len(whole)
    chunks = list(body.chunks(min(start, len(whole))))
    assert all(chunks)
    assert b"".join(chunks) == whole[start:]
    begin = min(start, len(whole))
    part = body.part(begin, begin + length)
    assert b"".join(part.chunks()) == whole[begin : begin + length]
    assert part.size == len(whole[begin : begin + length])


SIZES = st.integers(-1, 60)
MOVES = st.lists(
    st.tuples(st.just("read"), SIZES)
    | st.tuples(st.just("set"), st.integers(0, 300))
    | st.tuples(st.just("step"), st.integers(0, 20))
    | st.tuples(st.just("end"), st.just(0)),
    max_size=12,
)


@given(BUFFERS, MOVES)
def test_reads_as_a_file_does(buffers, moves):
    """botocore may read, seek and tell in any order: it sees what a file would give."""
    body, file = Body(buffers), io.BytesIO(b"".join(buffers))
    size = body.size
    for move, number in moves:
        match move:
            case "read":
                assert body.read(number) == file.read(number)
            case "set":
                body.seek(number)
                file.seek(min(number, size))
            case "step":
                body.seek(number, io.SEEK_CUR)
                file.seek(min(file.tell() + number, size))
            case "end":
                body.seek(0, io.SEEK_END)
                file.seek(0, io.SEEK_END)
        assert body.tell() == file.tell()


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=6))
def test_checksums_of_parts_make_that_of_the_whole(parts):
    """S3 checks the whole object against the checksum that we make of its parts' checksums."""
    whole = Body(parts)
    crcs = [Body([part]).crc64() for part in parts]
    expected = base64.b64encode(whole.crc64().to_bytes(8, "big")).decode()
    assert combined(crcs, [len(part) for part in parts]) == expected


def test_checksum_of_the_catalogue():
    """CRC-64/NVME of "123456789", as reveng.sourceforge.io/crc-catalogue gives it."""
    assert Body([b"1234", b"56789"]).crc64() == 0xAE8B14860A799888


def test_nothing_is_copied():
    """A chunk is the caller's memory, at most CHUNK bytes of it."""
    memory = bytearray(3 * CHUNK)
    chunks = list(Body([memoryview(memory)]).chunks())
    memory[0] = 7
    assert chunks[0][0] == 7
    assert {len(chunk) for chunk in chunks} == {CHUNK}


@pytest.mark.parametrize("size", [100 * MIB, 5 * GIB, 100 * GIB, 700 * GIB, 5 * TIB, 48 * TIB])
def test_part_size_keeps_the_limits_of_s3(size):
    """At most 10,000 parts of 5 MiB to 5 GiB each, and no smaller ones than need be."""
    part = multipart.part_size(size)
    assert -(-size // part) <= 10_000
    assert 5 * MIB <= part <= 5 * GIB
    assert part == multipart.PART or part % MIB == 0
