"""The CloudFormation templates, with the source of the Lambda functions filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from textwrap import indent
from typing import Final, Literal

from keepfit.infra.stacks import generated

Kind = Literal["storage", "compute"]

EMAILS: Final = "Emails"
EGRESS_PORTS: Final = "EgressPorts"
READS: Final = "Reads"
POLICIES: Final = "Policies"

_DOCSTRING = re.compile(r'\A""".*?"""\n\n|^ +""".*?"""\n', re.DOTALL | re.MULTILINE)
_FUNCTION = re.compile(r"^( +)# infra/functions/(\w+\.py)\n", re.MULTILINE)

_SUBSCRIPTIONS: Final = "  # AWS::SNS::Subscription, "
_EGRESS_RULES: Final = "        # EgressPorts, "
_READ_POLICY: Final = "  # AWS::IAM::Policy with "


def template_of(kind: Kind, parameters: Mapping[str, str]) -> str:
    """Return the template of a stack with these parameters, as far as they are given."""

    def items(name: str) -> list[str]:
        return [item for item in parameters.get(name, "").split(",") if item]

    return template_body(kind, items(EMAILS), egress_ports=items(EGRESS_PORTS), reads=items(READS))


def template_body(
    kind: Kind,
    emails: Sequence[str] = (),
    *,
    egress_ports: Sequence[str] = (),
    reads: Sequence[str] = (),
) -> str:
    """Return the template, with each Lambda function's source in place of its name.

    Docstrings are left out: CloudFormation limits the whole template to 51,200 bytes. A template
    can't repeat a resource for the items of a parameter, so these are written out.

    Args:
        emails: the addresses of subscriptions.
        egress_ports: the ports to which jobs may connect, besides 443.
        reads: s3://BUCKET/PREFIX of data that jobs may read.
    """
    folder = files("keepfit.infra")

    def source(match: re.Match[str]) -> str:
        text = (folder / "functions" / match[2]).read_text("utf-8")
        return indent(_DOCSTRING.sub("", text), match[1])

    body = (folder / "templates" / f"{kind}.yaml").read_text("utf-8")
    body = _replace_line(body, _SUBSCRIPTIONS, generated.subscriptions(emails))
    body = _replace_line(body, _EGRESS_RULES, generated.egress_rules(egress_ports))
    body = _replace_line(body, _READ_POLICY, generated.read_policy(reads))
    return _FUNCTION.sub(source, body)


def _replace_line(body: str, start: str, part: str) -> str:
    """Return the template with `part` in place of the line that starts like this, if it has one."""
    return re.sub(rf"^{re.escape(start)}.*\n", lambda _: part, body, flags=re.MULTILINE)


def template_parameters(template: str) -> frozenset[str]:
    """Return the names of the template's parameters."""
    section = template.partition("\nParameters:\n")[2]
    section = re.split(r"^\w", section, maxsplit=1, flags=re.MULTILINE)[0]
    return frozenset(re.findall(r"^  (\w+):", section, re.MULTILINE))
