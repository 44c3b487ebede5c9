"""The environment variables of keepfit, and those that only look like them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from keepfit.callbacks.environment_variables import (
    OTHER_JOB,
    RESUBMITTED_AT,
    WAITING_SINCE,
    known_variables,
    unknown_variables,
)
from tests.e2e.process import ROOT

NAME = re.compile(r"KEEPFIT_[A-Z0-9_]*[A-Z0-9]")
PATTERNS = {"KEEPFIT_S3"}
"""What documentation calls KEEPFIT_S3_*."""


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("KEEPFIT_STOR", "KEEPFIT_STORE"),
        ("KEEPFIT_SAVEEVERY", "KEEPFIT_SAVE_EVERY"),
        ("KEEPFIT_RESTART", "KEEPFIT_RESTARTS"),
        ("KEEPFIT_S3_KMS_KEY", "KEEPFIT_S3_KMS_KEY_ID"),
        ("keepfit_stor", "KEEPFIT_STORE"),
        ("keepfit_s3_sse", "KEEPFIT_S3_SSE"),
        ("KEEPFIT_XYZZY", None),
        ("KEEPFIT_", None),
    ],
)
def test_unknown(name, nearest):
    """A variable without effect is named, with the one that was meant."""
    assert unknown_variables({name: "value", "HOME": "/", "KEEPFIT_RUN": "x"}) == {name: nearest}


def test_known():
    """No variable of keepfit is named; those of settings have an effect in any case."""
    assert not unknown_variables(dict.fromkeys(known_variables(), ""))
    assert not unknown_variables({"keepfit_store": "", "Keepfit_Save_Every": ""})


def named_in(*patterns: str) -> set[str]:
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert files
    return {name for path in files for name in NAME.findall(path.read_text())} - PATTERNS


def test_no_variable_is_missing():
    """What the sources and the infrastructure name is known: the list comes from the settings."""
    assert named_in("callbacks/**/*.py", "job/**/*.py", "infra/**/*.py") <= known_variables()
    assert named_in("infra/templates/*.yaml", "Dockerfile") <= known_variables()
    assert RESUBMITTED_AT in named_in("infra/functions/*.py")


def test_the_documentation_has_all():
    """The tables of docs/commands.md name each variable that a user may set, and no other."""
    assert named_in("docs/commands.md") == known_variables() - {
        RESUBMITTED_AT,
        OTHER_JOB,
        WAITING_SINCE,
    }
    assert named_in("README.md") <= known_variables()


SCRIPT = """
from keepfit.callbacks import environment_variables
environment_variables.warn_of_unknown_variables()
environment_variables.warn_of_unknown_variables()
"""


def test_once_in_a_process(tmp_path):
    """One line names the variable, never its value, which may be a secret."""
    environment = {"KEEPFIT_STOR": "hunter2", "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True
    )
    assert ended.stdout == ""
    printed = ended.stderr
    assert len(re.findall(r"\bKEEPFIT_STOR\b", printed)) == 1
    assert "did you mean KEEPFIT_STORE?" in printed
    assert "hunter2" not in printed
