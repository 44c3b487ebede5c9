"""Run an example uninterrupted and with kills, and compare what both leave behind.

The uninterrupted run is plain Keras without keepfit, so a comparison also shows that `keepfit run`
alone changes nothing.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from tests.e2e.process import ROOT

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
KILLS = 3
SAVE_EVERY = "7 batches"


@dataclass(frozen=True)
class Outcome:
    """The traces of a run.

    Attributes:
        last_line: of its standard output.
        fits: the epochs, the history and the variables of each `fit` of the last attempt.
        files: what each file contains, by its path.
        hooks: number of calls of Keras' hooks.
        kills: the moments at which attempts were killed, in words.
    """

    last_line: str
    fits: list[dict[str, Any]]
    files: dict[str, Any]
    hooks: int
    kills: tuple[str, ...] = ()


class Server:
    """A process of tests/examples/server.py."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KEEPFIT_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.examples.server"],
            cwd=ROOT,
            env=environment | {"TF_CPP_MIN_LOG_LEVEL": "2", "AWS_EC2_METADATA_DISABLED": "true"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, script: Path, folder: Path, options: list[str] | None, kill: int | None = None
    ) -> int:
        """Run a script in `folder`/work. Return its exit code, negative for a signal."""
        work = folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        request = {"script": str(script), "folder": str(work), "options": options, "kill": kill}
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(json.loads(self._process.stdout.readline())["code"])

    def close(self) -> None:
        """End the server."""
        self._process.communicate()


@contextmanager
def serving() -> Iterator[Server]:
    """Start a server, which ends with the block."""
    server = Server()
    try:
        yield server
    finally:
        server.close()


def uninterrupted(server: Server, name: str, folder: Path) -> Outcome:
    """Run an example with plain Keras."""
    code = server.run(ROOT / f"examples/{name}.py", folder, None)
    assert code == 0, (folder / "err").read_text()
    return outcome(folder)


def interrupted(server: Server, name: str, folder: Path, kills: list[int]) -> Outcome:
    """Run an example with `keepfit run`; an attempt is killed at each of these numbers of hooks."""
    options = ["--exact", "--save-every", SAVE_EVERY, "--store", f"file://{folder}/store"]
    script = ROOT / f"examples/{name}.py"
    for kill in kills:
        code = server.run(script, folder, options, kill)
        assert code == -signal.SIGKILL, (folder / "err").read_text()
    assert server.run(script, folder, options) == 0, (folder / "err").read_text()
    return outcome(folder)


def moments(hooks: int, seed: str) -> list[int]:
    """Return the numbers of hooks after which attempts are killed, by a seeded generator.

    They are drawn from the whole training, and each attempt begins no later than where the one
    before it was killed: so the sum of the numbers is at most that of the training.
    """
    generator = random.Random(seed)
    places = sorted(generator.sample(range(1, hooks + 1), KILLS))
    return [place - before for before, place in pairwise([0, *places])]


def outcome(folder: Path) -> Outcome:
    """Return the traces of the last run in a folder."""
    observed = json.loads((folder / "observed.json").read_text())
    last_line = (folder / "out").read_text().rstrip().rpartition("\n")[2]
    files = contents(folder / "work")
    kills = tuple(path.read_text() for path in sorted(folder.glob("kill-*")))
    return Outcome(last_line, observed["fits"], files, observed["hooks"], kills)


def contents(folder: Path) -> dict[str, Any]:
    """Return what each file contains, by its path; the events of a folder of TensorBoard at once.

    Left out are times: those of events, and the date in a model's metadata.
    """
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name.startswith("events.out.tfevents"):
            name = str(path.parent.relative_to(folder))
            found.setdefault(name, []).extend(events(path))
        elif path.suffix == ".keras":
            found[name] = members(path)
        else:
            found[name] = path.read_bytes()
    return {k: sorted(v) if isinstance(v, list) else v for k, v in found.items()}


def events(path: Path) -> list[tuple[int, str, str]]:
    """Return the step, tag and value of each point in a file of TensorBoard."""
    return [
        (event.step, value.tag, value.SerializeToString().hex())
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def members(path: Path) -> dict[str, Any]:
    """Return the contents of a saved model, without its date and without addresses in memory."""
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(found["metadata.json"])
    del metadata["date_saved"]
    config = re.sub(rb'("shared_object_id": )\d+', rb"\g<1>0", found["config.json"])
    return found | {"metadata.json": metadata, "config.json": config}


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Return what differs between two runs, in words; nothing if they are identical.

    The last attempt of `other` may have skipped the first fits: keras-tuner runs a trial once.
    """
    found = []
    if one.last_line != other.last_line:
        found.append(f"last line of output: {one.last_line!r}, {other.last_line!r}")
    skipped = len(one.fits) - len(other.fits)
    if skipped < 0:
        found.append(f"{len(one.fits)} fits, {len(other.fits)} fits")
    fits = zip(one.fits[skipped:], other.fits, strict=True) if skipped >= 0 else ()
    for number, (first, second) in enumerate(fits, skipped):
        for key, value in first.items():
            found += [f"fit {number}: {key}: {each}" for each in unequal(value, second[key])]
    return found + [f"file {each}" for each in unequal(one.files, other.files)]


def unequal(one: Any, other: Any) -> list[str]:
    """Return the keys of two dicts whose values differ, or both values of another type."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            f"{key}: {str(one.get(key))[:200]}, {str(other.get(key))[:200]}"
            for key in sorted({*one, *other})
            if one.get(key) != other.get(key)
        ]
    return [] if one == other else [f"{one}, {other}"]
