"""Facts about the machine: from its environment, and from HTTP emulators of IMDS and of ECS."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.journal.document import Machine
from keepfit.callbacks.journal.terms import PriceClass
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.runner_settings import PriceSettings
from keepfit.job.machine.facts import MachineFacts, collecting_machine_facts, priced
from keepfit.job.machine.sources import IMDS_PATHS, fitting, parse_container
from tests import imds
from tests.servers.processes import free_port

ENDPOINT, DISABLED = "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_DISABLED"
ECS = "ECS_CONTAINER_METADATA_URI_V4"
BATCH = {"AWS_BATCH_JOB_ID": "6f1c", "AWS_BATCH_JOB_ATTEMPT": "2"}
NO_PRICES = PriceSettings()
INSTANCE = {
    "instance_type": "c6i.xlarge",
    "instance_id": "i-0123456789abcdef0",
    "price_class": "spot",
    "region": "eu-central-1",
    "zone": "eu-central-1b",
}
CONTAINER = {
    "DockerId": "ea32192c8553",
    "LogDriver": "awslogs",
    "LogOptions": {
        "awslogs-group": "/keepfit/logs",
        "awslogs-region": "eu-central-1",
        "awslogs-stream": "keepfit/default/6f1c",
    },
    "ContainerARN": "arn:aws:ecs:eu-central-1:111122223333:container/0206b271",
}


def instance(**changes):
    """Return an emulated machine with these facts; None leaves one out."""
    facts = {k: v for k, v in (INSTANCE | changes).items() if v is not None}
    return imds.Machine(documents={IMDS_PATHS[name]: text for name, text in facts.items()})


def collected(environment, machine=None, container=None, prices=NO_PRICES, pauses=()):
    """Return what is known after all sources were asked."""
    with ExitStack() as stack:
        environment = {DISABLED: "true"} | environment
        if machine:
            environment |= {DISABLED: "", ENDPOINT: stack.enter_context(imds.serving(machine))}
        if container is not None:
            server = imds.Machine(open=True, documents={"/v4/id": container})
            environment[ECS] = f"{stack.enter_context(imds.serving(server))}/v4/id"
        facts = MachineFacts(environment, prices, host="here", pauses=pauses)
        facts.start()
        for thread in threading.enumerate():
            if thread.name == "keepfit-machine":
                thread.join(60)
        return facts.current()


def test_all_facts():
    """Type, place, price class, job and log of a Spot machine of AWS Batch."""
    prices = PriceSettings(hourly_price=0.07, on_demand_price=0.2)
    found = collected(BATCH, instance(), json.dumps(CONTAINER), prices)
    assert found == Machine(
        host="here",
        **INSTANCE,
        job="6f1c",
        job_attempt=2,
        log_group="/keepfit/logs",
        log_stream="keepfit/default/6f1c",
        hourly_price=0.07,
        on_demand_price=0.2,
    )
    Machine.model_validate_json(found.model_dump_json())


def test_only_the_host_is_known_outside_of_aws(monkeypatch):
    """Nothing answers: the other facts stay unknown, and no line is logged."""
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    nobody = {DISABLED: "", ENDPOINT: f"http://127.0.0.1:{free_port()}"}
    with capture_logs() as lines:
        facts = MachineFacts(nobody, NO_PRICES, pauses=(0.0, 0.0))
        assert collected(nobody, pauses=(0.0,)) == Machine(host="here")
    assert facts.current() == Machine(host="desk")
    assert lines == []


def test_a_fact_that_is_missing():
    """The others are found: each has a document of its own."""
    found = collected({}, instance(zone=None, instance_type=None))
    assert (found.zone, found.instance_type, found.region) == (None, None, INSTANCE["region"])


def test_a_source_is_asked_again():
    """An answer that comes late, as of a service that throttles, is used."""
    machine = instance()

    class Requests(list):
        def append(self, request):
            super().append(request)
            machine.status = 503 if len(self) < 3 else None

    machine.requests = Requests()
    assert collected({}, machine, pauses=(0.0,)).instance_id is None, "asked twice"
    machine.requests = Requests()
    assert collected({}, machine, pauses=(0.0, 0.0)).instance_id == INSTANCE["instance_id"]


def test_nothing_waits_for_a_service_that_hangs():
    """What is known is returned at once; the end of the block does not wait for an answer."""
    machine = imds.Machine(hangs=True)
    with imds.serving(machine) as url:
        began = time.monotonic()
        with collecting_machine_facts({ENDPOINT: url, **BATCH}, NO_PRICES) as current:
            assert current.current() == Machine(
                host=socket.gethostname(), job="6f1c", job_attempt=2
            )
        assert time.monotonic() - began < 1.5, "it has waited for a time-out of 2 s"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance_type", "x" * 1025),
        ("instance_id", "i-1\x1b[31m"),
        ("region", "<html>\n<body>"),
        ("zone", ""),
        ("zone", "   "),
        ("price_class", "free"),
        ("job_attempt", "first"),
        ("job_attempt", "-1"),
        ("job", "\udcff"),
        ("log_group", 7),
        ("log_stream", ["stream"]),
    ],
)
def test_a_value_that_does_not_fit_is_not_known(name, value):
    """Too long, control characters, another type: dropped, and nothing else with it."""
    assert fitting({"host": "here", name: value}) == {"host": "here"}


@pytest.mark.parametrize("kind", list(PriceClass))
def test_price_classes(kind):
    """Each of EC2's life cycles has a price class."""
    assert fitting({"price_class": f"{kind}\n"}) == {"price_class": kind}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"LogDriver": "json-file"}, {"region": "eu-central-1"}),
        ({"LogOptions": None}, {"region": "eu-central-1"}),
        ({"LogOptions": {"awslogs-region": "us-east-1"}}, {"region": "eu-central-1"}),
        ({"ContainerARN": "container/1"}, {}),
        ({"ContainerARN": None}, {}),
    ],
)
def test_logs_that_are_not_found(change, expected):
    """Another driver, or a log in another region than the container's, has no place here."""
    assert parse_container(json.dumps(CONTAINER | change)) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None)
@given(
    document=JSON
    | st.fixed_dictionaries({key: JSON | st.just(value) for key, value in CONTAINER.items()})
)
def test_any_document_of_ecs_can_be_read(document):
    """What it says fits the schema, or is dropped."""
    Machine.model_validate(fitting(parse_container(json.dumps(document))))


def test_documents_of_ecs_that_are_no_json():
    """They say nothing."""
    assert parse_container("") == parse_container("[" * 60_000) == parse_container("[1]") == {}


@pytest.mark.parametrize(
    ("kind", "given_prices", "expected"),
    [
        ("spot", (0.07, 0.2), (0.07, 0.2)),
        ("spot", (None, 0.2), (None, 0.2)),
        ("on-demand", (None, 0.2), (0.2, 0.2)),
        ("on-demand", (0.0, 0.2), (0.0, 0.2)),
        ("capacity-block", (None, 0.2), (None, 0.2)),
        (None, (None, 0.2), (None, 0.2)),
        ("on-demand", (None, None), (None, None)),
    ],
)
def test_prices(kind, given_prices, expected):
    """A machine on demand costs the on-demand price; what a Spot machine costs is not guessed."""
    settings = PriceSettings(hourly_price=given_prices[0], on_demand_price=given_prices[1])
    found = priced(Machine(price_class=kind), settings)
    assert (found["hourly_price"], found["on_demand_price"]) == expected


@pytest.mark.parametrize("value", ["-0.1", "10000.1", "nan", "inf", "cheap", "1e999"])
def test_prices_that_are_refused(value, monkeypatch):
    """The line names the setting, the bounds and the value."""
    monkeypatch.setenv("KEEPFIT_ON_DEMAND_PRICE", value)
    with pytest.raises(ConfigurationError, match=r"on_demand_price must be a price .* 0 to 10000"):
        PriceSettings.resolve(hourly_price="0.1")


def test_prices_of_the_environment(monkeypatch):
    """An argument wins over the variable; an empty variable counts as none."""
    monkeypatch.setenv("KEEPFIT_HOURLY_PRICE", "0.3")
    monkeypatch.setenv("KEEPFIT_ON_DEMAND_PRICE", "")
    assert PriceSettings.resolve(hourly_price="10000").hourly_price == 10000
    assert PriceSettings.resolve() == PriceSettings(hourly_price=0.3, on_demand_price=None)


def found_price(hourly, on_demand=None):
    """Return prices as AWS would tell them."""
    return PriceSettings(hourly_price=hourly, on_demand_price=on_demand)


def test_the_price_is_asked_for_where_none_is_given():
    """With what the machine is; it is known before the second answer, and both are recorded."""
    asked, second = [], threading.Event()

    def lookup(machine):
        asked.append((machine.instance_type, machine.zone, machine.price_class))
        yield found_price(0.06), ""
        assert second.wait(10)
        yield found_price(0.06, 0.2), ""

    with imds.serving(instance()) as url:
        facts = MachineFacts({ENDPOINT: url}, NO_PRICES, lookup=lookup, price_delay=0.0)
        facts.start()
        machine, gap = facts.price_after(10)
        assert (machine.hourly_price, machine.on_demand_price, gap) == (0.06, None, "")
        second.set()
        facts._thread.join(10)
    assert facts.current().on_demand_price == 0.2
    assert asked == [("c6i.xlarge", "eu-central-1b", PriceClass.SPOT)]


def test_a_given_price_is_not_asked_for():
    """The user knows better, and nothing is waited for."""
    prices = PriceSettings(hourly_price=0.07, on_demand_price=None)
    with imds.serving(instance()) as url:
        facts = MachineFacts({ENDPOINT: url}, prices, lookup=pytest.fail, price_delay=0.0)
        assert facts.price_after(0)[0].hourly_price == 0.07
        facts.start()
        facts._thread.join(10)
    assert facts.current().hourly_price == 0.07


@pytest.mark.parametrize(
    ("machine", "lookup", "gap"),
    [
        (instance(), lambda _: iter([(found_price(None), "AWS says no")]), "AWS says no"),
        (instance(), lambda _: 1 / 0, "division by zero"),
        (instance(instance_type=None), pytest.fail, "does not tell which machine it is"),
    ],
)
def test_why_a_price_is_not_known(machine, lookup, gap):
    """The reason is kept for who needs the price; no error of it ends anything."""
    with imds.serving(machine) as url:
        facts = MachineFacts({ENDPOINT: url}, NO_PRICES, lookup=lookup, price_delay=0.0)
        facts.start()
        found, reason = facts.price_after(10)
    assert found.hourly_price is None
    assert gap in reason


def test_nothing_waits_for_a_price_without_a_limit():
    """It is asked for when the attempt trains, and not any more once it has ended."""
    with imds.serving(instance()) as url:
        facts = MachineFacts({ENDPOINT: url}, NO_PRICES, lookup=pytest.fail)
        facts.start()
        assert "within 0 s" in facts.price_after(0)[1]
        facts.stop()
        facts._thread.join(10)
    assert facts.current().hourly_price is None
