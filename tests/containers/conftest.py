"""A job that was submitted, for the local runner."""

from __future__ import annotations

import pytest
from cfnlint.decode.cfn_yaml import load

from tests.containers.batch import Job
from tests.containers.engine import image, store_environment
from tests.e2e.process import ROOT


@pytest.fixture
def submitted(bucket):
    """Submits the MNIST job under a name, with these arguments."""
    resources = load(str(ROOT / "infra/templates/compute.yaml"))["Resources"]
    properties = resources["Job"]["Properties"]

    def lower(value):
        if isinstance(value, dict):
            return {k[0].lower() + k[1:]: lower(v) for k, v in value.items()}
        return [lower(v) for v in value] if isinstance(value, list) else value

    def submit(run, *args):
        definition = lower(properties)
        definition["containerProperties"]["image"] = image()
        definition["containerProperties"]["environment"].pop(0)
        command = ["run", "--deterministic", "--save-every", "2s", "/opt/venv/mnist.py", *args]
        environment = [
            {"name": "KEEPFIT_RUN", "value": run},
            {"name": "KEEPFIT_STORE", "value": f"{bucket}/runs"},
        ]
        return Job(
            definition, {"command": command, "environment": environment}, store_environment()
        )

    return submit
