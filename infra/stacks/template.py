"""The CloudFormation templates, with the source of the Lambda functions filled in."""

from __future__ import annotations

import re
from importlib.resources import files
from textwrap import indent
from typing import Literal

Kind = Literal["storage", "compute"]

_DOCSTRING = re.compile(r'\A""".*?"""\n\n', re.DOTALL)
_FUNCTION = re.compile(r"^( +)# infra/functions/(\w+\.py)\n", re.MULTILINE)


def template_body(kind: Kind) -> str:
    """Return the template, with each Lambda function's source in place of its name.

    The module's docstring is left out: CloudFormation limits the source to 4096 characters.
    """
    folder = files("keepfit.infra")

    def source(match: re.Match[str]) -> str:
        text = (folder / "functions" / match[2]).read_text("utf-8")
        return indent(_DOCSTRING.sub("", text), match[1])

    return _FUNCTION.sub(source, (folder / "templates" / f"{kind}.yaml").read_text("utf-8"))


def template_parameters(template: str) -> frozenset[str]:
    """Return the names of the template's parameters."""
    section = template.partition("\nParameters:\n")[2]
    section = re.split(r"^\w", section, maxsplit=1, flags=re.MULTILINE)[0]
    return frozenset(re.findall(r"^  (\w+):", section, re.MULTILINE))
