"""An index of tiny wheels, and a file of requirements."""

from __future__ import annotations

import os

import pytest

from tests.requirements.samples import MACOS, MANYLINUX, wheel

IMAGE = {"numpy": "2.4.6", "tensorflow": "2.21.0", "tensorflow-cpu": "2.21.0", "boto3": "1.44.5"}
"""Packages of an image; a few, since pip reads a wheel for each."""


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The folder in which pip finds packages, and nowhere else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "index"
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    wheel(folder, "alpha", requires=["numpy>=1.26", "beta>=1", "boto3[crt]", *ON_MARKERS])
    wheel(folder, "beta", tag=MANYLINUX)
    wheel(folder, "beta", "2.0", tag=MACOS)
    wheel(folder, "gamma", requires=["numpy<2"])
    wheel(folder, "delta", requires=["beta>=1"])
    wheel(folder, "linux_only")
    return folder


ON_MARKERS = (
    'linux_only; sys_platform == "linux" and platform_release == ""',
    'never; platform_release != "" or sys_platform == "darwin"',
)
"""Dependencies by markers that the image and the machine of the tests evaluate differently."""


@pytest.fixture
def project(tmp_path):
    """Return a function that writes the requirements of a folder and returns the file."""

    def written(*lines, name="requirements.txt"):
        folder = tmp_path / "job"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return written
