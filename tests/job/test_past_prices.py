"""Prices of machines that may be gone: by type, zone and time, as the journals name them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from keepfit.callbacks.journal.document import Machine
from keepfit.callbacks.journal.goodput import measure
from keepfit.callbacks.journal.terms import Reason
from keepfit.infra.aws import AwsError
from keepfit.infra.jobs.machines import Instance, NoPrice
from keepfit.infra.jobs.past_prices import (
    MAX_KINDS,
    PastMachine,
    past_prices,
    present_prices,
    spot_changes,
)
from keepfit.infra.jobs.spot_history import MAX_PAGES
from keepfit.job.reports.prices import fill_all, fill_prices, recorded_machines
from tests.journal.factory import BEGAN, journal

NOW = BEGAN + timedelta(hours=2)
PREEMPTED = {"reason": Reason.PREEMPTED}
SPOT = {
    "instance_type": "c7i.xlarge",
    "zone": "eu-west-1b",
    "region": "eu-west-1",
    "price_class": "spot",
}


def product(dollars):
    price = {"priceDimensions": {"b": {"pricePerUnit": {"USD": str(dollars)}}}}
    return json.dumps({"terms": {"OnDemand": {"a": price}}})


class Aws:
    """Clients with fixed answers: prices by zone, each with the seconds since when it is valid."""

    def __init__(self, spot=None, on_demand=0.2, denied=(), pages=1):
        self.spot = {"eu-west-1b": [(0.06, -9000)]} if spot is None else spot
        self.on_demand = on_demand
        self.denied = denied
        self.pages = pages
        self.asked = []

    def __call__(self, service, region):
        self.asked.append((service, region))
        return self

    def describe_spot_price_history(self, **request):
        self._refuse("DescribeSpotPriceHistory")
        changes = [
            {
                "Timestamp": BEGAN + timedelta(seconds=s),
                "SpotPrice": str(dollars),
                "InstanceType": request["InstanceTypes"][0],
                "AvailabilityZone": request["AvailabilityZone"],
            }
            for dollars, s in self.spot.get(request["AvailabilityZone"], ())
        ]
        page = int(request.get("NextToken", 0))
        more = {"NextToken": str(page + 1)} if page + 1 < self.pages else {"NextToken": ""}
        return {"SpotPriceHistory": changes[page :: self.pages], **more}

    def get_products(self, **request):
        self._refuse("GetProducts")
        return {"PriceList": [product(self.on_demand)] if self.on_demand else []}

    def _refuse(self, operation):
        if operation in self.denied:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)


def used(began=0.0, ended=3600.0, **changes):
    """Return a machine that was used between two times, in seconds after BEGAN."""
    facts = SPOT | {"zone": "eu-west-1b"} | changes
    return PastMachine(
        facts["instance_type"],
        facts["zone"],
        facts["region"],
        facts["price_class"],
        BEGAN + timedelta(seconds=began),
        BEGAN + timedelta(seconds=ended),
    )


@pytest.mark.parametrize("pages", [1, 2, 3])
def test_the_mean_over_the_time_of_each_machine(pages):
    """One request serves all machines of a type in a zone; each has the prices of its own time."""
    changes = [(0.06, -9000), (0.12, 1800), (0.3, 3600), (0.9, 9000)]
    aws = Aws({"eu-west-1b": changes}, pages=pages)
    machines = [used(), used(3600, 7200), used(0, 900), used(1800, 1800)]
    found, gaps = past_prices(machines, aws, NOW)
    assert [prices.hourly for prices in found] == pytest.approx([0.09, 0.3, 0.06, 0.12])
    assert {prices.on_demand for prices in found} == {0.2}
    assert gaps == ()
    assert aws.asked.count(("pricing", None)) == 1


def test_machines_on_demand_and_of_other_classes():
    """The price list for one on demand; what a capacity block costs is not known."""
    machines = [used(price_class="on-demand"), used(price_class="capacity-block")]
    aws = Aws()
    found, _ = past_prices(machines, aws, NOW)
    assert [(p.hourly, p.on_demand) for p in found] == [(0.2, 0.2), (None, 0.2)]
    assert ("ec2", "eu-west-1") not in aws.asked


def test_prices_that_ec2_has_forgotten():
    """After 90 days there are none; the others are found."""
    old = used(-91 * 86400, -90.5 * 86400)
    found, gaps = past_prices([old, used()], Aws(), NOW)
    assert [p.hourly for p in found] == [None, pytest.approx(0.06)]
    assert gaps == ("EC2 has forgotten the Spot prices of 1 attempts: 90 days",)


def test_what_is_refused_is_asked_for_once():
    """A missing permission is one gap, however many machines there are."""
    zones = ("eu-west-1a", "eu-west-1b")
    machines = [used(zone=zone, instance_type=name) for zone in zones for name in ("a.x", "b.x")]
    aws = Aws(denied={"DescribeSpotPriceHistory", "GetProducts"})
    found, gaps = past_prices(machines, aws, NOW)
    assert {(p.hourly, p.on_demand) for p in found} == {(None, None)}
    assert len(gaps) == 2
    assert all("is not allowed" in gap for gap in gaps)
    assert len(aws.asked) == 2


def test_a_type_without_a_price_hides_no_other():
    """Its gap is named, and the next type is asked for."""
    machines = [used(zone="eu-west-1c"), used()]
    found, gaps = past_prices(machines, Aws(), NOW)
    assert [p.hourly for p in found] == [None, pytest.approx(0.06)]
    assert gaps == ("EC2 has no Spot price of c7i.xlarge",)


def test_requests_are_bounded():
    """Types beyond the limit are named as left out; so is a history that never ends."""
    machines = [
        used(price_class="on-demand", instance_type=f"t{n}.x") for n in range(MAX_KINDS + 2)
    ]
    aws = Aws()
    found, gaps = past_prices(machines, aws, NOW)
    assert [p.hourly for p in found] == [0.2] * MAX_KINDS + [None] * 2
    assert gaps == ("the prices of 2 more kinds of machines are not asked for",)
    with pytest.raises(AwsError, match="too many prices"):
        spot_changes(Aws(pages=MAX_PAGES + 1), Instance("c7i.xlarge", "eu-west-1b"), BEGAN, NOW)


def test_the_price_of_a_spot_machine_does_not_wait_for_the_price_list():
    """It comes first; the price on demand follows."""
    first, both = present_prices(used(), Aws({"eu-west-1b": [(0.06, -9000), (0.07, -60)]}))
    assert (first.hourly, first.on_demand) == (0.07, None)
    assert (both.hourly, both.on_demand) == (0.07, 0.2)
    (only,) = present_prices(used(price_class="on-demand"), Aws())
    assert (only.hourly, only.on_demand) == (0.2, 0.2)
    first, both = present_prices(used(), Aws({}, on_demand=None))
    assert (both.hourly, both.on_demand) == (None, None)
    assert both.gaps == (
        "EC2 has no Spot price of c7i.xlarge",
        "the price list has no c7i.xlarge in eu-west-1",
    )


@pytest.mark.parametrize("missing", ["instance_type", "region", "price_class", "zone"])
def test_a_machine_that_is_not_known_is_not_asked_for(missing):
    """A part of the facts would give a wrong price: a Spot machine's depends on its zone."""
    machine = Machine(**{k: v for k, v in SPOT.items() if k != missing})
    aws = Aws()
    given = journal(machine=machine)
    assert fill_prices([given], NOW, aws).journals == (given,)
    assert aws.asked == []


def test_journals_without_prices_get_them():
    """A price that a journal has stays; the costs of the run are those of all attempts."""
    spot = Machine(**SPOT)
    journals = [
        journal(1, machine=spot, **PREEMPTED),
        journal(2, started=60, resumed=100, steps=200, machine=spot, kill=True),
        journal(3, started=120, resumed=200, steps=300, price=0.5, on_demand=1.0),
        journal(4, started=180, resumed=300, steps=400),  # no machine
    ]
    filled = fill_prices(journals, NOW, Aws())
    hourly = [j.machine.hourly_price for j in filled.journals]
    assert hourly[:3] == pytest.approx([0.06, 0.06, 0.5])
    assert hourly[3] is None
    assert [j.machine.on_demand_price for j in filled.journals] == [0.2, 0.2, 1.0, None]
    costs = measure(filled.journals).costs
    assert costs.paid == pytest.approx(13 / 3600 * (0.06 + 0.06 + 0.5))
    assert (costs.unpriced, costs.unended) == (1, 1)
    assert filled.gaps == ()


def test_machines_of_several_runs_are_asked_for_together():
    """One request a type and zone, whichever run has used it; nothing where nothing is missing."""
    spot = Machine(**SPOT)
    runs = [[journal(machine=spot)], [], [journal(machine=spot, run="other")]]
    aws = Aws()
    filled, _ = fill_all(runs, NOW, aws)
    assert [len(run) for run in filled] == [1, 0, 1]
    assert aws.asked == [("ec2", "eu-west-1"), ("pricing", None)]
    complete = Aws()
    fill_all(filled, NOW, complete)
    assert complete.asked == []


def test_machines_by_job_and_attempt():
    """An attempt of AWS Batch is found by the id of its job and its number in it."""
    machine = Machine(**SPOT, job="id", job_attempt=2, hourly_price=0.06)
    found = recorded_machines([journal(machine=machine), journal(2, machine=Machine(**SPOT))])
    assert list(found) == [("id", 2)]
    recorded = found["id", 2]
    assert (recorded.instance, recorded.hourly) == (Instance("c7i.xlarge", "eu-west-1b"), 0.06)


def test_the_request_has_valid_parameters(aws):
    """moto has no such price, but it would refuse parameters that do not exist."""
    now = datetime.now(UTC)
    with pytest.raises(NoPrice, match=r"no Spot price of m5\.none"):
        spot_changes(aws("ec2"), Instance("m5.none", "us-east-1a"), now - timedelta(hours=1), now)
