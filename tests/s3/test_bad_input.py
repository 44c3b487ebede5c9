"""An error is one clear line with object, cause and way out, and a matching exit code."""

import json
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import StorageError, Transient
from keepfit.callbacks.storage.s3.client import make_client
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from keepfit.callbacks.storage.s3.store import S3Store
from tests.checkpoint.samples import RUN, head_of, take_over
from tests.e2e import process
from tests.s3.proxy import Proxy, always, at, pass_through, reset_before, s3_error
from tests.s3.samples import (
    QUICK,
    assert_resumes,
    client_at,
    environment,
    small,
    store_at,
    store_of,
)

BRIEF = RetryPolicy(seconds=0.05, connect=1, read=1, longest_wait=0.01)

OPERATIONS = {
    "put": lambda store: store.put("run/object", [b"x"]),
    "swap": lambda store: store.swap("run/HEAD.json", b"x", expected=None),
    "load": lambda store: store.load("run/object"),
    "read_into": lambda store: store.read_into("run/object", memoryview(bytearray(1))),
    "list": lambda store: list(store.list("run/")),
    "folders": lambda store: list(store.folders("")),
    "delete": lambda store: store.delete("run/object"),
    "clear_unfinished": lambda store: store.clear_unfinished("run/"),
    "move": lambda store: store.move("run", "other"),
}

ACTIONS = {
    "put": ["s3:PutObject"],
    "swap": ["s3:PutObject"],
    "load": ["s3:GetObject", "s3:ListBucket"],
    "read_into": ["s3:GetObject", "s3:ListBucket"],
    "list": "s3:ListBucket",
    "folders": "s3:ListBucket",
    "delete": ["s3:DeleteObject"],
    "clear_unfinished": "s3:ListBucketMultipartUploads",
    "move": "s3:ListBucket",
}
"""The permissions that the message names for each operation if the role has none."""


def failure(call, kind=StorageError):
    """Return the message of the error that the call raises; check its class and its form."""
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, Transient) == (kind is Transient)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("operation", OPERATIONS)
def test_missing_bucket(operation, direct):
    """Any operation reports the missing bucket; NotFound would be taken for an empty run."""
    store = store_of(direct, "s3://keepfit-no-such-bucket/prefix")
    message = failure(lambda: OPERATIONS[operation](store))
    assert message == (
        "there is no bucket 'keepfit-no-such-bucket': create it, or name another store"
    )


def test_claim_in_a_missing_bucket(direct):
    """A claim fails with the same line."""
    store = store_of(direct, "s3://keepfit-no-such-bucket/prefix")
    assert "create it" in failure(lambda: take_over(store))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_access_denied(operation, proxy, bucket):
    """The line ends with the statement that the role's policy lacks, for exactly this prefix."""
    proxy.arm(always(s3_error(403, "AccessDenied", "Access Denied")))
    store = store_at(proxy.url, f"{bucket}/team/runs")
    message = failure(lambda: OPERATIONS[operation](store))
    name = bucket.removeprefix("s3://")
    assert message.startswith(f"{bucket}/team/runs")
    line, _, statement = message.partition("The job's role needs: ")
    assert "access denied" in line
    arn = f"arn:aws:s3:::{name}"
    resource = {
        "s3:GetObject": [f"{arn}/team/runs/*", arn],
        "s3:ListBucket": arn,
        "s3:ListBucketMultipartUploads": arn,
    }
    first = ACTIONS[operation] if isinstance(ACTIONS[operation], str) else ACTIONS[operation][0]
    assert json.loads(statement) == {
        "Effect": "Allow",
        "Action": ACTIONS[operation],
        "Resource": resource.get(first, [f"{arn}/team/runs/*"]),
    }
    assert first in line
    asked = ["GET", "list"] if first == "s3:GetObject" else [proxy.requests[0].method]
    assert len(proxy.requests) == len(asked), "a refusal is not retried"


ANSWERS = {
    "unknown key": (
        s3_error(403, "InvalidAccessKeyId", "The AWS Access Key Id does not exist."),
        ["does not accept the AWS credentials", "InvalidAccessKeyId", "check which are in use"],
    ),
    "wrong secret": (
        s3_error(403, "SignatureDoesNotMatch", "The signature does not match."),
        ["does not accept the AWS credentials", "SignatureDoesNotMatch"],
    ),
    "clock": (
        s3_error(403, "RequestTimeTooSkewed", "The difference is too large."),
        ["clock is wrong by more than 15 minutes", "set it"],
    ),
    "not implemented": (
        s3_error(501, "NotImplemented", "A header you provided implies functionality"),
        ["does not support put_object", "conditional writes (If-Match, If-None-Match)"],
    ),
    "something else": (
        s3_error(400, "InvalidRequest", "Missing required header."),
        ["S3 refused put_object", "InvalidRequest: Missing required header."],
    ),
    "not S3 at all": (
        s3_error(405, "MethodNotAllowed", "The method is not allowed."),
        ["S3 refused put_object", "MethodNotAllowed"],
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_refusal(case, proxy, bucket):
    """An error that no retry can fix is reported after one request, with object and cause."""
    answer, words = ANSWERS[case]
    proxy.arm(always(answer))
    store = store_at(proxy.url, bucket)
    message = failure(lambda: store.swap(head_key(RUN), b"x", expected=None))
    assert message.startswith(f"{bucket}/run/HEAD.json")
    assert all(word in message for word in words), message
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        s3_error(301, "PermanentRedirect", "Elsewhere.", x_amz_bucket_region="eu-west-3"),
        s3_error(
            400, "AuthorizationHeaderMalformed", "Wrong.", inside="<Region>eu-west-3</Region>"
        ),
    ],
    ids=["redirect", "malformed"],
)
def test_wrong_region(answer, proxy, bucket):
    """The line names the region to set."""
    proxy.arm(always(answer))
    message = failure(lambda: store_at(proxy.url, bucket).load("run/object"))
    name = bucket.removeprefix("s3://")
    assert message.startswith(f"bucket {name!r} is in another region: set AWS_REGION=eu-west-3 (")


def test_redirected_write(proxy, fresh):
    """A write that S3 redirects to the bucket's region arrives there completely."""
    store = store_at(proxy.url, fresh().uri)
    elsewhere = s3_error(301, "PermanentRedirect", "Elsewhere.", x_amz_bucket_region="eu-west-3")
    proxy.arm(at(0, elsewhere))
    store.put("run/object", [b"a" * 300_000, b"b"])
    assert [request.method for request in proxy.requests] == ["PUT", "PUT"]
    assert "eu-west-3" in dict(proxy.requests[1].headers)["Authorization"]
    assert store.load("run/object")[0] == b"a" * 300_000 + b"b"


EXPIRED = s3_error(400, "ExpiredToken", "The provided token has expired.")


def test_expired_credentials_are_renewed(proxy, bucket):
    """The provider is asked for newer credentials, and the operation continues."""
    made = []

    def make():
        made.append(client_at(proxy.url))
        return made[-1]

    opened = store_at(proxy.url, bucket)
    store = S3Store(opened._address, make, QUICK)
    proxy.arm(lambda number, _: EXPIRED if number == 0 else None)
    store.put("expired/object", [b"x"])
    assert store.load("expired/object")[0] == b"x"
    assert len(made) == 2


def test_expired_credentials_that_stay(proxy, bucket):
    """They are given up soon: another attempt may get new ones, this one won't."""
    proxy.arm(always(EXPIRED))
    message = failure(lambda: store_at(proxy.url, bucket).load("run/object"), Transient)
    assert message.startswith(f"{bucket}/run/object: the AWS credentials have expired")
    assert "ExpiredToken" in message
    assert message.endswith("renew them")
    assert len(proxy.requests) == 3


NO_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": None,
    "AWS_SECRET_ACCESS_KEY": None,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_CONFIG_FILE": "/dev/null",
}

ENVIRONMENTS = {
    "no credentials": (NO_CREDENTIALS, ["no AWS credentials", "AWS_PROFILE", "role"]),
    "half of them": ({"AWS_SECRET_ACCESS_KEY": None}, ["missing: AWS_SECRET_ACCESS_KEY"]),
    "no such profile": ({"AWS_PROFILE": "nothere"}, ["profile (nothere) could not be found"]),
    "endpoint without scheme": (
        {"AWS_ENDPOINT_URL_S3": "127.0.0.1:9000"},
        ["Invalid endpoint: 127.0.0.1:9000", "https://HOST:PORT"],
    ),
    "no token file": (
        NO_CREDENTIALS
        | {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nothere", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"},
        ["can't be requested", "/nothere"],
    ),
    "broken setting": (
        {"AWS_REQUEST_CHECKSUM_CALCULATION": "nonsense"},
        ["request_checksum_calculation", "nonsense"],
    ),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_unusable_settings(case, bucket):
    """The line names what is missing or wrong, and nothing is retried."""
    changes, words = ENVIRONMENTS[case]
    with environment(**changes):
        message = failure(lambda: S3Store.open(bucket, BRIEF).load("run/object"))
    assert message.startswith(bucket)
    assert all(word in message for word in words), message


def test_region_from_the_environment(bucket):
    """botocore itself reads AWS_DEFAULT_REGION only; jobs of AWS Batch have AWS_REGION."""
    with environment(AWS_REGION="eu-west-3", AWS_DEFAULT_REGION=None):
        assert make_client(BRIEF).meta.region_name == "eu-west-3"
    with environment(AWS_REGION=None, AWS_DEFAULT_REGION="eu-west-2"):
        assert make_client(BRIEF).meta.region_name == "eu-west-2"


def test_settings_file_that_can_not_be_read(bucket, tmp_path):
    """The line names the file."""
    path = tmp_path / "config"
    path.write_text("[default\nregion = x")
    with environment(AWS_CONFIG_FILE=str(path)):
        assert str(path) in failure(lambda: S3Store.open(bucket, BRIEF).load("run/object"))


def test_secret_with_a_line_break_is_not_shown(bucket):
    """A token with a trailing newline, as read from a file, is refused and not logged."""
    with environment(AWS_SESSION_TOKEN="very-secret\n"):
        message = failure(lambda: S3Store.open(bucket, BRIEF).load("run/object"))
    assert "very-secret" not in message
    assert message.startswith(f"{bucket}/run/object")
    assert "AWS_SESSION_TOKEN" in message


@pytest.fixture
def closed_port():
    """Return the address of a port on which nothing listens, reserved during the test."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_network(operation, closed_port):
    """Any operation raises Transient; the line names the object and the address."""
    store = store_at(closed_port, "s3://bucket/prefix", BRIEF)
    message = failure(lambda: OPERATIONS[operation](store), Transient)
    assert message.startswith("s3://bucket/prefix")
    assert "was not reached" in message
    assert closed_port in message


def test_network_that_is_restored(bucket):
    """A refused connection is retried like any other failure of the network."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        proxy = Proxy(listener=listener)
        client = client_at(proxy.url)
        tries = []

        def restore_network(**_):
            tries.append(len(proxy.requests))
            if len(tries) == 3:
                listener.listen()
                stack.enter_context(proxy)

        client.meta.events.register("before-send.s3", restore_network)
        store_of(client, bucket).put("network/object", [b"x"])
        assert (tries, len(proxy.requests)) == ([0, 0, 0], 1)


STRIPPED = {"both": ["If-Match", "If-None-Match"], "If-Match": ["If-Match"]}
STRIPPED["If-None-Match"] = ["If-None-Match"]


@pytest.mark.parametrize("ignored", STRIPPED)
def test_server_that_ignores_conditions(ignored, bucket, fresh):
    """It is detected at the first swap, before any training, and nothing else is changed."""
    store = fresh()
    with Proxy(strip=STRIPPED[ignored]) as proxy:
        ignoring = store_at(proxy.url, store.uri)
        message = failure(lambda: take_over(ignoring))
    assert message == (
        f"{store.uri}: this server ignores If-Match or If-None-Match, so keepfit can't keep two "
        f"attempts of a run apart; use a server with conditional writes"
    )
    assert head_of(store).attempt == 1
    assert_resumes(store, None)


def test_conditions_are_checked_once(proxy, fresh):
    """The check costs two requests per process, not two per swap."""
    store = store_of(client_at(proxy.url), fresh().uri)
    attempt = take_over(store)
    proxy.arm()
    attempt.record_baseline({"log": 1})
    attempt.record_baseline({"log": 2})
    assert [request.method for request in proxy.requests] == ["PUT", "PUT"]


MALFORMED = [
    *("s3://", "s3:///runs", "s3://ab", "s3://Bucket/x", "s3://under_score/x", "s3://-a-/x"),
    *("s3://192.168.0.1/x", "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/x"),
    *("s3://bucket/../x", "s3://bucket/a/./b", "s3://bucket/a//b", "s3://bucket/..", "s3:/bucket"),
    *("s3://bucket/a\nb", "s3://bucket/a\0b", "s3://bucket/\udcff", "S3://bucket/x"),
]


@pytest.mark.parametrize("uri", MALFORMED)
def test_malformed_address(uri):
    """It is refused before any request; the message repeats the value that was received."""
    message = failure(lambda: open_store(uri), ConfigurationError)
    assert message.endswith(f"Received: store={uri!r}")


PREFIXES = [
    "a b",
    "ä/日本/ñ",
    "100%/a+b&c=d?e#f",
    "x:y@z,w;v",
    "a'b\"c<d>e",
    "~!*()",
    "-",
    "%2E%2E",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("slash", ["", "/"])
def test_any_prefix_that_s3_takes(prefix, slash, bucket, direct, s3):
    """A run works under any prefix, and keys with the same beginning are left alone."""
    uri = f"{bucket}/odd{len(slash)}/{prefix}"
    name = bucket.removeprefix("s3://")
    s3.put_object(Bucket=name, Key=f"odd{len(slash)}/{prefix}{RUN}/neighbour", Body=b"")
    store = store_of(direct, f"{uri}{slash}")
    assert store.uri == uri
    attempt = take_over(store, keep=1)
    attempt.commit(small(1))
    attempt.commit(small(2))
    assert_resumes(store, 2)
    assert list(store.folders("")) == [RUN]
    store.move(RUN, "aside")
    assert list(store.folders("")) == ["aside"]
    found = s3.list_objects_v2(Bucket=name, Prefix=f"odd{len(slash)}/{prefix}{RUN}/")
    assert found["KeyCount"] == 1


def test_store_without_a_prefix(s3, direct):
    """A whole bucket may be a store."""
    name = f"keepfit-whole-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    for uri in (f"s3://{name}", f"s3://{name}/"):
        store = store_of(direct, uri)
        assert store.uri == f"s3://{name}"
        take_over(store)
    assert head_of(store).attempt == 2


def test_key_that_is_too_long(bucket, direct):
    """The limit is in bytes, not in characters, and the line states it."""
    store = store_of(direct, f"{bucket}/{'ä' * 480}")
    message = failure(lambda: store.put("x" * 64, [b""]))
    assert "longer than the 1024 bytes of a key" in message
    store.put("x" * 63, [b""])


@pytest.mark.parametrize("key", ["../outside", "run/../../outside", "/root", "run/\0"])
def test_keys_do_not_lead_out_of_the_store(key, bucket, direct):
    """A key from a damaged document that leads out of the store is refused."""
    store = store_of(direct, f"{bucket}/prefix")
    for call in (
        lambda: store.load(key),
        lambda: store.put(key, [b"x"]),
        lambda: store.read_into(key, memoryview(bytearray(1))),
        lambda: store.delete(key),
    ):
        assert f"{key!r} is not a valid key of {bucket}/prefix" in failure(call)


SCRIPT = """
import functools
from keepfit.callbacks.storage.s3 import retries
retries.RetryPolicy = functools.partial(retries.RetryPolicy, seconds=1, longest_wait=0.1)
import keras, numpy
from keepfit import Resumable
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(numpy.ones((4, 2)), numpy.ones((4, 1)), verbose=0, callbacks=[Resumable([])])
print("trained")
"""


def keepfit_run(folder, uri, **env):
    """Run a script that trains for a moment with `keepfit run`, with short retries of S3."""
    (folder / "train.py").write_text(SCRIPT)
    ended = process.run(folder, "--store", uri, "train.py", **env)
    assert "Traceback" not in ended.err, ended.err
    return ended


def test_process_trains_with_any_prefix(bucket, direct, tmp_path):
    """The exit code is 0, and the next process finds the run finished."""
    uri = f"{bucket}/ein Präfix/run=1"
    ended = keepfit_run(tmp_path, uri)
    assert (ended.code, ended.out) == (0, "trained\n"), ended.err
    assert ended.one("attempt_started")["store"] == uri
    assert keepfit_run(tmp_path, uri).code == 0
    assert head_of(store_of(direct, uri), "train").attempt == 2


def test_process_without_a_bucket(s3, tmp_path):
    """The exit code is 78: no later attempt would find the bucket either."""
    ended = keepfit_run(tmp_path, "s3://keepfit-no-such-bucket/runs")
    assert (ended.code, ended.out) == (78, "")
    assert "there is no bucket 'keepfit-no-such-bucket'" in ended.one("refused")["reason"]


def test_process_that_is_denied(proxy, bucket, tmp_path):
    """The exit code is 78, and the line contains the statement to add to the role."""
    proxy.arm(always(s3_error(403, "AccessDenied")))
    ended = keepfit_run(tmp_path, f"{bucket}/runs", AWS_ENDPOINT_URL_S3=proxy.url)
    assert (ended.code, ended.out) == (78, "")
    assert '"Action": ["s3:GetObject", "s3:ListBucket"]' in ended.one("refused")["reason"]


def test_process_that_may_not_save(proxy, bucket, tmp_path):
    """The exit code is 74: the training has finished, but its result is not stored."""

    def plan(_, request):
        return s3_error(403, "AccessDenied") if "/shards/" in request.path else pass_through

    proxy.arm(plan)
    ended = keepfit_run(tmp_path, f"{bucket}/unsaved", AWS_ENDPOINT_URL_S3=proxy.url)
    assert (ended.code, ended.out) == (74, "trained\n")
    assert "s3:PutObject is not allowed" in ended.one("final_state_unsaved")["reason"]


def test_processes_without_network(closed_port, proxy, bucket, tmp_path):
    """One that has no network ends with 75, so that the orchestrator starts it again.

    One that loses it while it saves trains to its end, and ends with 74: it has no last save. Both
    wait a minute, so they do it at the same time.
    """

    def plan(_, request):
        return reset_before if "/shards/" in request.path else pass_through

    proxy.arm(plan)
    without, losing = tmp_path / "without", tmp_path / "losing"
    without.mkdir()
    losing.mkdir()
    with ThreadPoolExecutor(2) as pool:
        never = pool.submit(
            keepfit_run, without, "s3://bucket/runs", AWS_ENDPOINT_URL_S3=closed_port
        )
        lost = pool.submit(keepfit_run, losing, f"{bucket}/lost", AWS_ENDPOINT_URL_S3=proxy.url)
        ended = never.result()
    assert (ended.code, ended.out) == (75, "")
    assert closed_port in ended.one("store_unreachable")["reason"]
    assert ended.named("store_retry"), "the request was retried"
    ended = lost.result()
    assert (ended.code, ended.out) == (74, "trained\n")
    assert "was not reached" in ended.one("final_state_unsaved")["reason"]


@pytest.mark.parametrize("uri", ["s3://", "s3://Bucket/x", "s3://bucket/../x", "s3:bucket"])
def test_process_with_a_malformed_address(uri, tmp_path):
    """The exit code is 2, as for any wrong argument, with one line."""
    ended = process.run(tmp_path, "--store", uri, process.SMALL)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert f"store={uri!r}" in ended.one("refused")["reason"]
