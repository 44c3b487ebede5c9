"""The wheels in the store: what is uploaded, and content that does not come from there."""

from __future__ import annotations

import re

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import Damaged, StorageError
from keepfit.job.requirements.checks import read_wheel
from keepfit.job.requirements.document import Requirements, Wheel, document_key
from keepfit.job.requirements.resolve import _described
from keepfit.job.requirements.stored import (
    Uploaded,
    download_wheels,
    load_document,
    upload_wheels,
)
from tests.requirements.samples import wheel


@pytest.fixture
def store(tmp_path):
    return open_store(f"file://{tmp_path}/store")


def documented(*paths, **fields):
    """Return the document of these wheels, and their paths."""
    wheels = tuple(_described(read_wheel(path)) for path in paths)
    document = Requirements(**{"python": "3.11", "wheels": wheels, "provided": {}, **fields})
    return document, {path.name: path for path in paths}


def test_only_what_the_store_lacks(store, tmp_path):
    """Another resolution shares the wheels; an equal one uploads nothing, and has one digest."""
    alpha, beta = wheel(tmp_path, "alpha"), wheel(tmp_path, "beta")
    document, paths = documented(alpha)
    assert upload_wheels(store, document, paths) == Uploaded(1, alpha.stat().st_size)
    assert upload_wheels(store, document, paths) == Uploaded(0, 0)
    both, paths = documented(alpha, beta)
    assert upload_wheels(store, both, paths) == Uploaded(1, beta.stat().st_size)
    assert load_document(store, document.digest) == document
    (tmp_path / "down").mkdir()
    (read_alpha, read_beta) = download_wheels(store, both.wheels, tmp_path / "down")
    assert (read_alpha.read_bytes(), read_beta.read_bytes()) == (
        alpha.read_bytes(),
        beta.read_bytes(),
    )


def test_a_damaged_wheel(store, tmp_path):
    """Whatever was put in its place is not installed."""
    document, paths = documented(wheel(tmp_path, "alpha"))
    upload_wheels(store, document, paths)
    (stored,) = document.wheels
    file = tmp_path / "store" / stored.key
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    (tmp_path / "down").mkdir()
    with pytest.raises(Damaged, match="is damaged; delete it and submit the job again"):
        download_wheels(store, document.wheels, tmp_path / "down")
    file.unlink()
    (tmp_path / "again").mkdir()
    with pytest.raises(StorageError, match=r"has no wheel alpha-1\.0-py3-none-any\.whl"):
        download_wheels(store, document.wheels, tmp_path / "again")


def test_another_document(store, tmp_path):
    """A document is accepted by its digest only; one that is missing is one line."""
    document, paths = documented(wheel(tmp_path, "alpha"))
    upload_wheels(store, document, paths)
    other, _ = documented(wheel(tmp_path, "beta"))
    store.delete(document_key(document.digest))
    with pytest.raises(StorageError, match=f"has no requirements {document.digest}: submit"):
        load_document(store, document.digest)
    store.put(document_key(document.digest), [other.to_bytes()])
    with pytest.raises(Damaged, match="is damaged; delete it"):
        load_document(store, document.digest)


GOOD = Wheel(name="own", version="1.0", file="own-1.0-py3-none-any.whl", sha256=64 * "a", size=9)

LIES = [
    ({"wheels": ()}, "at least 1"),
    ({"wheels": (GOOD, GOOD)}, "a package is listed more than once"),
    ({"wheels": (GOOD,), "provided": {"own": "1.0"}}, "own is listed as a wheel and"),
    ({"python": "2.7"}, "python"),
    ({"wheels": (GOOD.model_copy(update={"file": "../own.whl"}),)}, "file"),
    ({"wheels": (GOOD.model_copy(update={"file": "--target=x.whl"}),)}, "file"),
    ({"wheels": (GOOD.model_copy(update={"sha256": "../" + 61 * "a"}),)}, "sha256"),
    ({"wheels": (GOOD.model_copy(update={"size": 5 << 30}),)}, "size"),
    (
        {
            "wheels": tuple(
                GOOD.model_copy(
                    update={"name": f"own{n}", "file": f"own{n}-1.0-a-b-c.whl", "size": 4 << 30}
                )
                for n in range(5)
            )
        },
        "more than 17179869184",
    ),
]


@pytest.mark.parametrize(("lie", "reason"), LIES)
def test_lies(store, lie, reason):
    """Whoever writes the bucket can seal a document, but has no other file written or read."""
    valid = {"python": "3.11", "wheels": (GOOD,), "provided": {}}
    forged = Requirements.model_construct(format=1, **(valid | lie))
    store.put(document_key(forged.digest), [forged.to_bytes()])
    with pytest.raises(Damaged, match=re.escape(reason)):
        load_document(store, forged.digest)


def test_the_valid_document(store):
    """The forged documents above differ from a valid one."""
    valid = Requirements(python="3.11", wheels=(GOOD,), provided={"numpy": "2.4.6"})
    store.put(document_key(valid.digest), [valid.to_bytes()])
    assert load_document(store, valid.digest) == valid
