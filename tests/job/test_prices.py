"""The prices that `keepfit submit` passes to a job: those of the user, else those of AWS."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.runner_settings import PriceSettings
from keepfit.infra.aws import AwsError
from keepfit.infra.jobs.prices import current_spot_price, find_prices, only_type
from keepfit.job.commands.batch.submission.variables import price_variables
from tests.job.conftest import refused

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PRODUCT = json.dumps(
    {"terms": {"OnDemand": {"a": {"priceDimensions": {"b": {"pricePerUnit": {"USD": "0.20"}}}}}}}
)
NONE = PriceSettings(hourly_price=None, on_demand_price=None)


def spot(zone, dollars, minutes):
    """Return a Spot price that is valid since `minutes` ago."""
    return {
        "AvailabilityZone": zone,
        "InstanceType": "c6i.xlarge",
        "SpotPrice": dollars,
        "Timestamp": NOW - timedelta(minutes=minutes),
    }


def environment(kind, *types):
    return {"computeResources": {"type": kind, "instanceTypes": list(types)}}


class Aws:
    """Clients with fixed answers for services that no emulator has: prices."""

    def __init__(self, history=(), products=(), denied=()):
        self._answers = {"SpotPriceHistory": list(history), "PriceList": list(products)}
        self._denied = denied
        self.asked = []

    def __call__(self, service):
        return self

    def describe_spot_price_history(self, **request):
        return self._answer("DescribeSpotPriceHistory", request)

    def get_products(self, **request):
        return self._answer("GetProducts", request)

    def _answer(self, operation, request):
        self.asked.append((operation, request))
        if operation in self._denied:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)
        return self._answers


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        ([environment("SPOT", "c6i.xlarge")], "c6i.xlarge"),
        ([environment("SPOT", "c6i.xlarge"), environment("EC2", "c6i.xlarge")], "c6i.xlarge"),
        ([environment("SPOT", "c6i.xlarge", "m6i.xlarge")], None),
        ([environment("SPOT", "c6i.xlarge"), environment("EC2", "m6i.xlarge")], None),
        ([environment("SPOT", "c6i")], None),
        ([environment("SPOT", "optimal")], None),
        ([environment("SPOT", "c6i.xlarge"), {}], None),
        ([], None),
    ],
)
def test_only_type(compute, expected):
    """Families, types that AWS Batch chooses and unknown ones are several."""
    assert only_type(compute) == expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [(["SPOT"], (0.07, 0.2)), (["EC2"], (0.2, 0.2)), (["SPOT", "EC2"], (None, 0.2))],
)
def test_prices_of_a_queue(kinds, expected):
    """The mean of the zones' Spot prices; with both kinds, what is paid depends on the attempt."""
    history = [spot("a", "0.05", 9), spot("b", "0.09", 5), spot("b", "0.5", 70)]
    aws = Aws(history, [PRODUCT])
    compute = [environment(kind, "c6i.xlarge") for kind in kinds]
    found = find_prices(compute, aws, "eu-west-1", NOW)
    assert (found.hourly, found.on_demand) == (pytest.approx(expected[0]), expected[1])
    assert not found.gaps


def test_several_types_are_not_asked_for():
    """There is no request and no note: this is the usual case of a new deployment."""
    aws = Aws()
    found = find_prices([environment("SPOT", "c6i", "m6i")], aws, "eu-west-1", NOW)
    assert (found.hourly, found.on_demand, found.gaps) == (None, None, ())
    assert aws.asked == []


@pytest.mark.parametrize(
    ("aws", "known"),
    [
        (Aws([spot("a", "0.05", 1)], denied={"GetProducts"}), {"KEEPFIT_HOURLY_PRICE": "0.05"}),
        (
            Aws(products=[PRODUCT], denied={"DescribeSpotPriceHistory"}),
            {"KEEPFIT_ON_DEMAND_PRICE": "0.2"},
        ),
        (Aws(denied={"GetProducts", "DescribeSpotPriceHistory"}), {}),
        (Aws(), {}),
    ],
)
def test_prices_that_aws_does_not_tell(aws, known, monkeypatch):
    """They are left out, with one line; the other price is passed."""
    monkeypatch.setattr("keepfit.infra.aws.client", aws)
    with capture_logs() as lines:
        found = price_variables(NONE, [environment("SPOT", "c6i.xlarge")], "eu-west-1")
    assert found == known
    (line,) = lines
    assert line["event"] == "price_unknown"
    assert line["reason"].count("price") == 2 - len(known)
    assert "pricing:GetProducts" in line["fix"]


def test_prices_of_the_user(monkeypatch):
    """AWS is not asked; a price that was not given stays unknown."""
    aws = Aws()
    monkeypatch.setattr("keepfit.infra.aws.client", aws)
    given = PriceSettings(hourly_price=0.0712345678, on_demand_price=None)
    compute = [environment("SPOT", "c6i.xlarge")]
    assert price_variables(given, compute, "x") == {"KEEPFIT_HOURLY_PRICE": "0.0712346"}
    assert aws.asked == []


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--hourly-price", "nan"], "hourly_price"),
        (["--env", "KEEPFIT_ON_DEMAND_PRICE=much"], "on_demand_price"),
    ],
)
def test_what_is_no_price_is_refused(script, options, name):
    """Every attempt would refuse it, so `submit` does before anything is created."""
    assert f"{name} must be a price" in refused("submit", *options, script, code=2)


def test_the_request_has_valid_parameters(aws):
    """moto has no such price, but it would refuse parameters that do not exist."""
    with pytest.raises(AwsError, match=r"no Spot price of m5\.none"):
        current_spot_price(aws("ec2"), "m5.none", NOW)
