"""A job with packages that the image lacks, from its submission to its end in containers."""

from __future__ import annotations

import os

import pytest

from tests.containers.batch import Ending
from tests.requirements.samples import wheel

pytestmark = pytest.mark.container

SCRIPT = """
import os, subprocess, sys
import alpha, beta
code = "import alpha; print('child has', alpha.VERSION)"
subprocess.run([sys.executable, "-c", code], check=True)
print("script has", alpha.VERSION, "and beta", beta.VERSION)
sys.exit(75 if os.environ["AWS_BATCH_JOB_ATTEMPT"] == "1" else 0)
"""


def test_each_attempt_has_the_same_packages(submitted, tmp_path, monkeypatch):
    """The image installs them as its plain user, on a read-only root, without an index.

    A version that appears after the submission makes no difference.
    """
    folder, index = tmp_path / "project", tmp_path / "index"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "requirements.txt").write_text("alpha\ntensorflow\n")
    wheel(index, "alpha", requires=["beta", "numpy>=2"])
    wheel(index, "beta")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    job = submitted("packages", script=folder / "train.py", options=())
    wheel(index, "alpha", "2.0")
    for attempt in job.attempts():
        assert attempt.container.until_event("requirements_installed")["wheels"] == 2
        attempt.container.until(lambda line: line == "child has 1.0\n")
        attempt.container.until(lambda line: line == "script has 1.0 and beta 1.0\n")
    assert job.endings == [Ending(75), Ending(0)]
