"""Arguments as they are stored: without secrets, and bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.format.head import ScriptRecord
from keepfit.callbacks.launch.arguments import LONGEST, MOST, is_secret, storable
from keepfit.callbacks.masking import HIDDEN

SECRET = "hunter2hunter2"
WITH_A_SECRET = [
    ["--password", SECRET],
    [f"--password={SECRET}"],
    [f"--db.passwd={SECRET}"],
    ["--api-key", SECRET],
    [f"--apikey={SECRET}"],
    ["--apiKey", SECRET],
    [f"--wandb_api_key={SECRET}"],
    ["-token", SECRET],
    ["--hf-token", SECRET],
    [f"--authToken={SECRET}"],
    [f"AWS_SECRET_ACCESS_KEY={SECRET}"],
    [f"+logger.credentials={SECRET}"],
    ["--client-secret", SECRET, "--lr", "0.1"],
    [f"https://user:{SECRET}@example.com/data"],
    [f"--data=s3://{SECRET}@bucket/data"],
    [f"https://example.com/data?X-Amz-Signature={SECRET}"],
    [f"postgres://me:p@{SECRET}@host/db?sslmode=on"],
    ["--header", f"Authorization: Bearer {SECRET}"],
    ["--header", f"Authorization: Basic {SECRET}"],
    ["--header", f"Bearer {SECRET}"],
    ["--config", json.dumps({"user": "me", "password": SECRET})],
    ["--config", f"{{password: '{SECRET} {SECRET}'}}"],
]


@pytest.mark.parametrize("arguments", WITH_A_SECRET, ids=lambda x: x[0][:20])
def test_a_secret_is_not_stored(arguments):
    """Its place is marked, so that it is not compared either."""
    stored = storable(arguments)
    assert SECRET not in " ".join(stored)
    assert HIDDEN in " ".join(stored)
    changed = [argument.replace(SECRET, "another-secret") for argument in arguments]
    assert storable(changed) == stored


PLAIN = [
    ["--lr", "0.1", "--epochs=3", "data/train", "-v", "--", "-"],
    ["--tokenizer", "bert", "--max-tokens", "512", "--pad-token", "[PAD]", "--token-dim=64"],
    ["--eos_token=</s>", "--monkey", "x", "--key", "value", "--keyboard=us"],
    ["s3://bucket/data/part-1", "file:///data", "--url=http://localhost:8080/x#y"],
    ["--use-token", "--lr", "0.1"],
    ["basic training", "größe=ü", ""],
]


@pytest.mark.parametrize("arguments", PLAIN, ids=lambda x: x[0][:20])
def test_other_arguments_are_stored_as_they_are(arguments):
    """They distinguish two trainings."""
    assert storable(arguments) == tuple(arguments)


@pytest.mark.parametrize(
    ("name", "secret"),
    [("token", True), ("--HF_TOKEN", True), ("tokens", False), ("pad_token", False)],
)
def test_names_of_tokens(name, secret):
    """A token of a text is no secret."""
    assert is_secret(name) is secret


def test_long_arguments():
    """A digest tells two long arguments from each other; the start can be read."""
    one, two = "a" * LONGEST + "1", "a" * LONGEST + "2"
    assert storable([one]) != storable([two])
    assert storable([one])[0].startswith("aaaa")
    assert f"{LONGEST + 1} characters" in storable([one])[0]


def test_many_arguments():
    """A digest tells two long lists from each other; the first ones can be read."""
    one, two = [str(i) for i in range(5000)], [str(i) for i in range(4999)] + ["x"]
    assert storable(one)[: MOST - 1] == tuple(one[: MOST - 1])
    assert len(storable(one)) == MOST
    assert storable(one)[-1] != storable(two)[-1]


@given(st.lists(st.text(st.characters(exclude_categories=[])) | st.just("\udcff"), max_size=300))
def test_any_arguments_can_be_stored(arguments):
    """HEAD's schema accepts them, and reads them back."""
    arguments = [a for a in arguments if not any("\ud800" <= c < "\udc80" for c in a)]
    arguments = [a for a in arguments if not any("\udcff" < c <= "\udfff" for c in a)]
    record = ScriptRecord(arguments=storable(arguments))
    assert ScriptRecord.model_validate_json(record.model_dump_json()) == record
    assert sum(map(len, record.arguments)) <= MOST * LONGEST
