"""The CloudFormation templates, with the source of the Lambda functions filled in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from textwrap import indent
from typing import Literal

Kind = Literal["storage", "compute"]

EMAILS = "Emails"
"""The parameter of the compute stack that has the addresses of subscriptions."""

_DOCSTRING = re.compile(r'\A""".*?"""\n\n|^ +""".*?"""\n', re.DOTALL | re.MULTILINE)
_FUNCTION = re.compile(r"^( +)# infra/functions/(\w+\.py)\n", re.MULTILINE)
_SUBSCRIPTIONS = re.compile(r"^  # AWS::SNS::Subscription, .*\n", re.MULTILINE)


def template_body(kind: Kind, emails: Sequence[str] = ()) -> str:
    """Return the template, with each Lambda function's source in place of its name.

    Docstrings are left out: CloudFormation limits the whole template to 51,200 bytes.

    Args:
        emails: the addresses of subscriptions. A template can't repeat a resource for the items of
            a parameter.
    """
    folder = files("keepfit.infra")

    def source(match: re.Match[str]) -> str:
        text = (folder / "functions" / match[2]).read_text("utf-8")
        return indent(_DOCSTRING.sub("", text), match[1])

    body = (folder / "templates" / f"{kind}.yaml").read_text("utf-8")
    subscriptions = "\n".join(map(_subscription, emails))
    return _FUNCTION.sub(source, _SUBSCRIPTIONS.sub(lambda _: subscriptions, body))


def _subscription(email: str) -> str:
    """Return the resource for an address; its name stays the same whatever other ones there are."""
    name = f"Email{hashlib.sha256(email.encode()).hexdigest()[:12]}"
    return f"""\
  {name}:
    Type: AWS::SNS::Subscription
    Condition: HasEmails
    Properties: {{TopicArn: !Ref Topic, Protocol: email, Endpoint: {json.dumps(email)}}}
"""


def template_parameters(template: str) -> frozenset[str]:
    """Return the names of the template's parameters."""
    section = template.partition("\nParameters:\n")[2]
    section = re.split(r"^\w", section, maxsplit=1, flags=re.MULTILINE)[0]
    return frozenset(re.findall(r"^  (\w+):", section, re.MULTILINE))
