"""What jobs may reach: data to read, further policies, ports; and the disk of their machines."""

from __future__ import annotations

import json
import uuid

import pytest
import typer
from cfnlint.decode.cfn_yaml import load

from keepfit.callbacks.logs.logger import capture_logs
from keepfit.infra import deployment
from keepfit.infra.aws import AwsError
from keepfit.infra.stacks import request, template
from keepfit.infra.stacks import stack as stacks
from keepfit.infra.stacks.changes import StackDeployer
from keepfit.job.commands.deployment import infra_options
from tests.infra.conftest import keepfit

ADMIN = "arn:aws:iam::aws:policy/AmazonDynamoDBReadOnlyAccess"
DENY = [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]
OWN = "arn:aws:iam::123456789012:policy/team/read+models@x"


def resources(tmp_path, kind, **parameters):
    """Return the resources of the template with these parameters."""
    path = tmp_path / "template.yaml"
    path.write_text(template.template_of(kind, parameters))
    return json.loads(json.dumps(load(str(path))["Resources"]))


def statements(tmp_path, *reads):
    found = resources(tmp_path, "storage", Reads=",".join(reads))["ReadPolicy"]["Properties"]
    assert found["Roles"] == [{"Ref": "JobRole"}]
    return found["PolicyDocument"]["Statement"]


def arn(name):
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{name}"}


def test_data_under_a_prefix(tmp_path):
    """It may be read and listed, and nothing beside it; each bucket has its own prefixes."""
    data, first, second = statements(tmp_path, "s3://b-b/x=1/y", "s3://a-a/f.csv", "s3://b-b/z")
    assert data["Action"] == "s3:GetObject"
    assert data["Resource"] == [
        arn(name)
        for name in ("a-a/f.csv", "a-a/f.csv/*", "b-b/x=1/y", "b-b/x=1/y/*", "b-b/z", "b-b/z/*")
    ]
    assert (first["Action"], first["Resource"]) == ("s3:ListBucket", arn("a-a"))
    assert first["Condition"] == {"StringLike": {"s3:prefix": ["f.csv", "f.csv/*"]}}
    assert (second["Action"], second["Resource"]) == ("s3:ListBucket", arn("b-b"))
    patterns = ["x=1/y", "x=1/y/*", "z", "z/*"]
    assert second["Condition"] == {"StringLike": {"s3:prefix": patterns}}
    assert all(s["Effect"] == "Allow" for s in (data, first, second))


def test_a_whole_bucket(tmp_path):
    """It may be listed without a prefix, also if a prefix of it is named besides."""
    data, listing = statements(tmp_path, "s3://data-a", "s3://data-a/some")
    assert arn("data-a/*") in data["Resource"]
    assert "Condition" not in listing


def test_without_data_there_is_no_policy(tmp_path):
    """Neither a policy without statements, nor a rule without a port."""
    assert "ReadPolicy" not in resources(tmp_path, "storage")
    assert "ReadPolicy" not in resources(tmp_path, "storage", Reads="")
    group = resources(tmp_path, "compute", EgressPorts="")["SecurityGroup"]["Properties"]
    assert {int(rule["ToPort"]) for rule in group["SecurityGroupEgress"]} == {53, 443}


def test_ports(tmp_path):
    """Each port is open to all addresses, for TCP only, besides HTTPS and DNS."""
    group = resources(tmp_path, "compute", EgressPorts="5432,8080")["SecurityGroup"]["Properties"]
    assert "SecurityGroupIngress" not in group
    more = [rule for rule in group["SecurityGroupEgress"] if int(rule["ToPort"]) not in (53, 443)]
    assert [(r["IpProtocol"], int(r["FromPort"]), int(r["ToPort"])) for r in more] == [
        ("tcp", port, port) for port in (5432, 5432, 8080, 8080)
    ]
    addresses = [rule.get("CidrIp") or rule["CidrIpv6"] for rule in more]
    assert addresses == ["0.0.0.0/0", "::/0"] * 2


@pytest.mark.parametrize(
    ("option", "given", "read"),
    [
        (infra_options.reads, None, None),
        (infra_options.reads, [""], ()),
        (infra_options.reads, ["s3://data-a/", "s3://data-a/x/y/"], ("s3://data-a", "s3://data-a/x/y")),
        (infra_options.reads, ["s3://data-a/x", "s3://data-a/x/"], ("s3://data-a/x",)),
        (infra_options.policies, None, None),
        (infra_options.policies, [""], ()),
        (infra_options.policies, [ADMIN, OWN, ADMIN], (ADMIN, OWN)),
        (infra_options.egress_ports, None, None),
        (infra_options.egress_ports, "", ()),
        (infra_options.egress_ports, "443, 5432,80", ("80", "5432")),
    ],
)  # fmt: skip
def test_options(option, given, read):
    """Not given, emptied, or the values without repetition, in one form."""
    assert option(given) == read


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (infra_options.reads, "data-a/x"),
        (infra_options.reads, "s3://"),
        (infra_options.reads, "s3://Data/x"),
        (infra_options.reads, "s3://data-a/x/*"),
        (infra_options.reads, "s3://data-a/${aws:username}"),
        (infra_options.reads, "s3://data-a/x,s3://data-b"),
        (infra_options.reads, "s3://data-a/../x"),
        (infra_options.reads, 's3://data-a/"'),
        (infra_options.policies, "AdministratorAccess"),
        (infra_options.policies, "arn:aws:iam::123456789012:role/x"),
        (infra_options.policies, OWN + "\n"),
        (infra_options.egress_ports, "0"),
        (infra_options.egress_ports, "65536"),
        (infra_options.egress_ports, "80-90"),
        (infra_options.egress_ports, "https"),
        (infra_options.egress_ports, "²"),
    ],
)
def test_mistakes(option, value):
    """One line names the value, and nothing is done."""
    given = value if option is infra_options.egress_ports else [value]
    with capture_logs() as logs, pytest.raises(typer.Exit) as ended:
        option(given)
    (line,) = logs
    assert (ended.value.exit_code, repr(value) in line["reason"]) == (2, True)


def test_too_many():
    """CloudFormation limits a parameter; the line says so before anything is changed."""
    with capture_logs() as logs, pytest.raises(typer.Exit):
        infra_options.reads([f"s3://data-a/{'x' * 100}{n}" for n in range(40)])
    assert "4096 bytes" in logs[0]["reason"]


def test_a_policy_that_is_too_large():
    """It is refused before anything changes; the limit leaves room for the policy of the store."""
    reads = tuple(f"s3://data-{n}/{'x' * 60}" for n in range(40))
    request.check_reads(request.DeploymentRequest(reads=reads[:15]))
    with pytest.raises(AwsError, match=r"characters, and 8500 fit into the role of jobs.*--policy"):
        request.check_reads(request.DeploymentRequest(reads=reads))


def test_a_deployment(aws):
    """The options are kept by a later `up`, replaced as a whole, and emptied."""
    assert "--disk" in keepfit("up", "--yes", "--disk", "29", code=2).stderr
    first = ("--read", "s3://data-a/x", "--read", "s3://data-b", "--policy", ADMIN)
    keepfit("up", "--yes", *first, "--egress-ports", "5432", "--disk", "200")
    made = deployment.find_deployment(aws("cloudformation"))
    assert made.policies == (ADMIN,)
    role = made.job_role.rpartition("/")[2]
    assert set(aws("iam").list_role_policies(RoleName=role)["PolicyNames"]) == {
        "prices",
        "reads",
        "runs",
    }
    keepfit("up", "--yes", "--max-vcpus", "8")
    kept = parameters(aws)
    assert kept["Reads"] == "s3://data-a/x,s3://data-b"
    assert (kept["Policies"], kept["EgressPorts"], kept["DiskGib"]) == (ADMIN, "5432", "200")
    printed = keepfit("up", "--yes", "--read", "", "--policy", "", "--egress-ports", "").stdout
    assert "Remove  ReadPolicy" in printed
    emptied = parameters(aws)
    assert {emptied[name] for name in ("Reads", "Policies", "EgressPorts")} == {""}
    assert deployment.find_deployment(aws("cloudformation")).policies == ()


def parameters(aws):
    """Return the parameters of both stacks."""
    described = aws("cloudformation").describe_stacks()["Stacks"]
    return {
        p["ParameterKey"]: p["ParameterValue"] for stack in described for p in stack["Parameters"]
    }


def test_localstack_creates_it(local_aws, monkeypatch):
    """The role has the policy of the data and the managed policies."""
    monkeypatch.setattr(stacks, "POLL_SECONDS", 0.2)
    policy = local_aws("iam").create_policy(
        PolicyName=f"p-{uuid.uuid4().hex[:8]}",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": DENY}),
    )["Policy"]["Arn"]
    asked = request.DeploymentRequest(reads=("s3://data-a/x",), policies=(policy,))
    cloudformation = local_aws("cloudformation")
    deployer = StackDeployer(cloudformation, ignore, ignore)
    name = f"keepfit-{uuid.uuid4().hex[:8]}"
    made = deployer.deploy("storage", name, None, request.storage_parameters(asked))
    role = made.outputs["JobRole"].rpartition("/")[2]
    iam = local_aws("iam")
    (attached,) = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert attached["PolicyArn"] == policy
    reads = iam.get_role_policy(RoleName=role, PolicyName="reads")["PolicyDocument"]
    assert reads["Statement"][0]["Resource"] == ["arn:aws:s3:::data-a/x", "arn:aws:s3:::data-a/x/*"]
    stacks.delete_stack(cloudformation, made, ignore)


def ignore(*_):
    """Ignore an event; confirm any question."""
