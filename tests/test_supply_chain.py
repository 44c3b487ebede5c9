"""The supply chain: licences of dependencies, the base image, and the exceptions of bandit."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from importlib.metadata import PackageNotFoundError as NotInstalled
from pathlib import Path

import pytest

from tests.e2e.process import ROOT

KNOWN = {
    "0BSD": {"0BSD"},
    "Apache-2.0": {"Apache 2.0", "Apache License 2.0", "Apache Software License", "Apache-2.0"},
    "BSD-2-Clause": {"BSD-2-Clause"},
    "BSD-3-Clause": {
        "3-Clause BSD License",
        "BSD",
        "BSD 3-Clause",
        "BSD License",
        "BSD-3-Clause",
    },
    "CC0-1.0": {"CC0-1.0"},
    "ISC": {"ISC License", "ISC"},
    "MIT": {"MIT", "MIT License"},
    "MIT-CMU": {"MIT-CMU"},
    "MPL-2.0": {"MPL-2.0"},
    "PSF-2.0": {"PSF-2.0"},
    "Zlib": {"Zlib"},
}
"""The licences that are accepted, by their SPDX identifier, and their names in metadata."""

COPYLEFT = {"MPL-2.0"}
"""Those of the accepted ones that ask for something in return; docs/licences.md explains it."""

UNDECLARED = {"namex": "Apache-2.0"}
"""Packages without a licence in their metadata, and the one in the file LICENSE of their wheel."""

PROPRIETARY = "proprietary (NVIDIA)"
"""The licence of CUDA's libraries, which only the image for GPUs has."""

ELSEWHERE = re.compile(r"colorama|nvidia-.*")
"""Packages for Windows or GPUs, which this environment does not have."""


def runtime_packages() -> set[str]:
    """Return the names of all packages in the locks of the two images."""
    locks = [ROOT / f"requirements-{variant}.lock" for variant in ("cpu", "gpu")]
    return {
        name
        for lock in locks
        for name in re.findall(r"^([a-z0-9][\w.-]*)==", lock.read_text(), re.M)
    }


def listed() -> dict[str, str]:
    """Return the licence of each package in the table of docs/licences.md."""
    text = (ROOT / "docs/licences.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9][\w.-]*) \| (.+?) \|$", text.partition("| --- |")[2], re.M)
    names = [name for name, _ in rows]
    assert names == sorted(set(names))
    return dict(rows)


def declared(package: Distribution) -> str:
    """Return the licence in a package's metadata, as an SPDX expression.

    Raises:
        KeyError: it is none of the known ones.
    """
    metadata = package.metadata.json
    identifiers = {text: spdx for spdx, texts in KNOWN.items() for text in texts}
    if expression := str(metadata.get("license_expression", "")):
        for part in re.split(r" AND | OR ", expression):
            identifiers[part]
        return expression
    if (text := str(metadata.get("license", ""))) in identifiers:
        return identifiers[text]
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get("classifier", [])
        if line.startswith("License :: OSI Approved :: ")
    ]
    if not classifiers and not text:
        return UNDECLARED[package.name]
    return " OR ".join(sorted(identifiers[name] for name in classifiers)) or identifiers[text]


def test_each_dependency_is_listed():
    """docs/licences.md lists what the images contain, and nothing else."""
    assert set(listed()) == runtime_packages()


@pytest.mark.parametrize("name", sorted(runtime_packages()))
def test_the_licence_of_a_dependency(name):
    """It is the one in the package's metadata, and one of those that are accepted."""
    licence = listed()[name]
    if name.startswith("nvidia-"):
        assert licence == PROPRIETARY
        return
    try:
        assert declared(distribution(name)) == licence
    except NotInstalled:
        assert ELSEWHERE.fullmatch(name)
        assert licence in KNOWN


def test_copyleft_is_named():
    """Each package under a copyleft licence is explained above the table."""
    text = (ROOT / "docs/licences.md").read_text().partition("| package |")[0]
    for name, licence in listed().items():
        if COPYLEFT & set(re.split(r" AND | OR ", licence)):
            assert f"**{name}**" in text


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: AGPL-3.0-only", None),
        ("License-Expression: MIT AND GPL-2.0-only", None),
        ("License: GPL", None),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", None),
        ("Author: somebody", None),
        ("License-Expression: MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("License: 3-Clause BSD License", "BSD-3-Clause"),
        ("License: Dual\nClassifier: License :: OSI Approved :: BSD License", "BSD-3-Clause"),
    ],
)
def test_an_unknown_licence_fails(metadata, licence, tmp_path):
    """The test above can fail: a licence that nobody has looked at is an error."""
    (tmp_path / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: new\nVersion: 1\n{metadata}\n"
    )
    package = Distribution.at(tmp_path)
    if licence:
        assert declared(package) == licence
    else:
        with pytest.raises(KeyError):
            declared(package)


BASE = re.compile(r"^ARG BASE=(python:[\w.-]+)@(sha256:[0-9a-f]{64})$", re.M)


def test_the_base_image_is_pinned():
    """Every stage is built from one image, whose digest names its content."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert len(BASE.findall(dockerfile)) == 1
    stages = re.findall(r"^FROM (\S+)", dockerfile, re.M)
    assert set(stages) == {"${BASE}"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [('{"manifests": []}', None), ("{}", "no image"), ("", "no image"), (None, "no answer")],
)
def test_the_base_image_is_renewed(answer, error, tmp_path):
    """scripts/base-image takes the digest that the registry has for the tag, or changes nothing."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/base-image", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path / name)
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    answers = f"printf '%s' '{answer}'" if answer is not None else "exit 1"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{answers}\n')
    docker.chmod(0o755)
    done = subprocess.run(
        [tmp_path / "scripts/base-image"],
        env={"PATH": f"{docker.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    before, after = ((at / "Dockerfile").read_text() for at in (ROOT, tmp_path))
    ((tag, _),) = BASE.findall(before)
    assert f"imagetools inspect --raw {tag}" in (tmp_path / "asked").read_text()
    if error:
        assert (done.returncode, after) == (1, before)
        assert error in done.stderr
    else:
        digest = hashlib.sha256(answer.encode()).hexdigest()
        assert done.returncode == 0, done.stderr
        assert after == BASE.sub(f"ARG BASE={tag}@sha256:{digest}", before)


def exceptions() -> Iterator[tuple[Path, str]]:
    """Yield each line that bandit is told to pass over."""
    for room in ("callbacks", "infra", "job", "src", "tests", "benchmarks"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for line in path.read_text().splitlines():
                if "# nosec" in line and path != Path(__file__):
                    yield path, line


def test_exceptions_of_bandit_have_a_reason():
    """Each names one rule, and says why it does not hold there."""
    found = list(exceptions())
    assert found
    for path, line in found:
        assert re.search(r"# nosec B\d{3} # \w+", line), f"{path}: {line}"
