"""moto's server in a process of its own, for services that LocalStack lacks, above all AWS Batch.

`with moto() as address:` starts it. As a program, this module is the server, with fixes for some
bugs of moto's CloudFormation:
- a stack that a change set has created has no outputs;
- UsePreviousValue of a list returns a list where a parameter is a string;
- the default of a list is a string, and AWS::NoValue stays in a list as an item;
- a repository without a name gets a name that is not allowed;
- AWS Batch requires a role where AWS would use its service-linked role;
- an event of a change set's execution does not name the failed resource, as nothing is rolled back.
  This one is not fixed here: failures are tested on LocalStack.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers.processes import LIMIT, free_port, running


@contextmanager
def moto() -> Iterator[str]:
    """Start a server with the content of a new account. Yield its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.servers.moto"]
    with running(command, {"MOTO_PORT": str(port)}, f"{address}/moto-api/data.json"):
        reset(address)
        yield address


def reset(address: str) -> None:
    """Delete its content. Jobs end as soon as they are submitted, without a container."""
    _post(f"{address}/moto-api/reset", b"")
    end_at_once(address)


def end_at_once(address: str) -> None:
    """Let jobs succeed as soon as they are submitted."""
    _configure(address, use_docker=False)


def run_in_containers(address: str) -> None:
    """Keep jobs pending: they wait for containers in Docker, which need not be installed."""
    _configure(address, use_docker=True)


def _configure(address: str, *, use_docker: bool) -> None:
    config = {"batch": {"use_docker": use_docker}}
    _post(f"{address}/moto-api/config", json.dumps(config).encode())


def _post(address: str, body: bytes) -> None:
    with urllib.request.urlopen(address, body, timeout=LIMIT):  # nosec B310 # of loopback
        pass


def serve() -> None:
    """Run moto's server until the process is killed."""
    from moto.server import main

    give_outputs_to_change_sets()
    take_previous_values()
    split_defaults()
    leave_out_no_value()
    name_repositories_in_lower_case()
    let_batch_have_its_own_role()
    main([])


def give_outputs_to_change_sets() -> None:
    from moto.cloudformation.models import ChangeSet

    apply = ChangeSet.apply

    def apply_with_outputs(self: ChangeSet) -> None:
        apply(self)
        self.stack.template = self.template
        self.stack._parse_template()
        self.stack.output_map = self.stack._create_output_map()
        self.stack.parameters = self.stack.stack_parameters
        self.stack.resource_map.input_parameters = self.stack.stack_parameters

    ChangeSet.apply = apply_with_outputs


def take_previous_values() -> None:
    from moto.cloudformation.models import Stack

    def as_strings(self: Stack) -> dict[str, str]:
        resolved = self.resource_map.resolved_parameters
        return {k: ",".join(v) if isinstance(v, list) else str(v) for k, v in resolved.items()}

    def as_list(self: Stack) -> list[dict[str, str]]:
        return [{"ParameterKey": k, "ParameterValue": v} for k, v in as_strings(self).items()]

    Stack.stack_parameters = property(as_strings)
    Stack.parameter_list = property(as_list)


def split_defaults() -> None:
    from moto.cloudformation.parsing import ResourceMap

    load = ResourceMap.load_parameters

    def load_and_split(self: ResourceMap) -> None:
        load(self)
        for name, slot in self._template.get("Parameters", {}).items():
            value = self.resolved_parameters[name]
            if "List" in slot["Type"] and isinstance(value, str):
                self.resolved_parameters[name] = value.split(",")
        self._parsed_resources.update(self.resolved_parameters)

    ResourceMap.load_parameters = load_and_split


def leave_out_no_value() -> None:
    from moto.cloudformation import parsing

    clean = parsing.clean_json

    def clean_without(resource: Any, resources_map: Any) -> Any:
        cleaned = clean(resource, resources_map)
        if isinstance(cleaned, list):
            return [item for item in cleaned if item is not None]
        return cleaned

    parsing.clean_json = clean_without


def name_repositories_in_lower_case() -> None:
    from moto.ecr.models import Repository

    create = Repository.create_from_cloudformation_json

    def create_in_lower_case(name: str, *args: Any, **kwargs: Any) -> Repository:
        return create(name.lower(), *args, **kwargs)

    Repository.create_from_cloudformation_json = staticmethod(create_in_lower_case)


def let_batch_have_its_own_role() -> None:
    from moto.batch.models import ComputeEnvironment
    from moto.iam.models import iam_backends

    create = ComputeEnvironment.create_from_cloudformation_json

    def create_with_role(
        name: str, json: dict[str, Any], account_id: str, region_name: str, **kwargs: Any
    ) -> ComputeEnvironment:
        iam = iam_backends[account_id]["aws"]
        own = [role for role in iam.get_roles() if role.name == "AWSServiceRoleForbatch"]
        role = own[0] if own else iam.create_service_linked_role("batch.amazonaws.com", "", "")
        properties = {"ServiceRole": role.arn, **json["Properties"]}
        return create(name, {**json, "Properties": properties}, account_id, region_name, **kwargs)

    ComputeEnvironment.create_from_cloudformation_json = staticmethod(create_with_role)


if __name__ == "__main__":
    serve()
