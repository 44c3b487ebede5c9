"""Generated documents with right digests, against everything that reads a store.

Each may lead to a refusal, never to another exception, to a key or file outside of the run, or to
an allocation beyond the documented limits. `-m soak` generates a multiple of the documents.
"""

from __future__ import annotations

import io
import itertools
import resource
import shutil
from collections.abc import Iterator
from contextlib import chdir, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.checkpoint.commit.claim import find_run
from keepfit.callbacks.checkpoint.format.keys import parse_key
from keepfit.callbacks.checkpoint.read import inspection
from keepfit.callbacks.checkpoint.read.documents import NoUsableCheckpoint
from keepfit.callbacks.checkpoint.read.history import read_history
from keepfit.callbacks.checkpoint.read.reader import Checkpoint, read_newest_usable
from keepfit.callbacks.errors import AttemptEnded, Refused
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.local import LocalStore
from keepfit.callbacks.training import random_state, restore
from keepfit.callbacks.training.data.fit_inputs import FitInputs
from keepfit.callbacks.training.data.position import DataChanged, iterator_states
from keepfit.callbacks.training.data.py_dataset import PyDatasetState
from keepfit.callbacks.training.data.tracker import DataTracker
from keepfit.callbacks.training.state_schema import TrainingStateSchema
from keepfit.job.cli import app
from keepfit.job.commands import model_export, tables
from tests.checkpoint.samples import MEMORY
from tests.forged.mutations import MUTATIONS, Mutation
from tests.forged.run import RUN, TRAINING, ForgedRun, callbacks, resume, save
from tests.training.trainings import shuffled, small

EXPECTED = (
    StorageError,
    inspection.NoSuchRun,
    inspection.RunMoved,
    NoUsableCheckpoint,
    model_export.NoCheckpointYet,
    model_export.NotExportable,
    Refused,
    DataChanged,
)
"""The exceptions that a command turns into one line and an exit code."""

MAX_MEMORY = 512 << 20
"""Bytes by which the process may grow over thousands of documents: TensorFlow's own pools."""

TOOLS, FITS, COMMANDS = 800, 10, 12
"""Documents of a quick run. Each run generates other ones."""

USED_ONCE_IN = 16
"""One of so many documents is shown and restored, which takes ten times as long as to read it."""

LOTS = 250
"""The multiple of a long run: 200,000 documents."""


def examples(count: int) -> settings:
    """Return settings that generate so many documents, each quickly."""
    return settings(
        max_examples=count,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
        database=None,
    )


@pytest.fixture(scope="module")
def forged() -> Iterator[ForgedRun]:
    """Return a run in memory whose documents each example changes."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        save(Path(folder))
        yield ForgedRun.of(Path(folder))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log into nowhere: thousands of rejections are expected."""
    with capture_logs():
        yield


class Changed:
    """The run with changed documents, which are written back after the block."""

    def __init__(self, run: ForgedRun, head: list[Mutation], manifest: list[Mutation]) -> None:
        self._run = run
        self._head, self._manifest = head, manifest

    def __enter__(self) -> LocalStore:
        run = ForgedRun.of(self._run.folder)
        for mutation in self._head:
            mutation.apply(run.head)
        for mutation in self._manifest:
            mutation.apply(run.manifest)
        run.seal()
        return LocalStore(run.folder / "runs")

    def __exit__(self, *_: object) -> None:
        self._run.seal()


DOCUMENTS = st.one_of(
    st.tuples(st.just([]), MUTATIONS),
    st.tuples(st.just([]), MUTATIONS),
    st.tuples(MUTATIONS, st.just([])),
)
"""Changes of HEAD and of the newest manifest; two of three are those of the manifest."""


def inspect(store: LocalStore) -> None:
    """Read what `ls`, `show`, `verify` and `prune` read."""
    assert RUN in [summary.run for summary in inspection.summarize_all(store)]
    with suppress(*EXPECTED):
        found = inspection.read_committed(store, RUN)
        if newest := next(iter(found.manifests.values()), None):
            read_history(store, newest)
    with suppress(*EXPECTED):
        inspection.verify(store, RUN)
    with suppress(*EXPECTED):
        assert all(parse_key(RUN, key) for key in inspection.find_orphans(store, RUN))


def show(store: LocalStore, target: Path) -> None:
    """Write what `ls`, `show`, `verify` and `export` write."""
    console = Console(file=io.StringIO(), markup=False)
    summaries = list(inspection.summarize_all(store))
    console.print(tables.runs_table(summaries, datetime.now(UTC)))
    with suppress(*EXPECTED):
        found = inspection.read_committed(store, RUN)
        console.print(tables.checkpoints_table(found, datetime.now(UTC)))
        newest = next(iter(found.manifests.values()), None)
        history = read_history(store, newest) if newest else None
        tables.as_json(tables.run_document(summaries[0], found, history))
        if history:
            console.print(tables.history_table(history))
    with suppress(*EXPECTED):
        console.print(tables.verification_table(inspection.verify(store, RUN)))
    with suppress(*EXPECTED):
        model_export.export_model(model_export.read_newest(store, RUN), target)


class Resuming:
    """One model and its callbacks, which are restored from each document in turn."""

    def __init__(self) -> None:
        self.model = small()
        self.model.train_on_batch(*next(iter(shuffled())))
        self.model.fit(shuffled(), epochs=1, verbose=0)
        self.held = HeldCallbacks.hold(callbacks())
        for held in self.held:
            held.callback.set_model(self.model)
        guard = ExactnessGuard()
        self.schema = TrainingStateSchema(
            self.model, self.held, PyDatasetState(None, guard), FitInputs(None, None, guard)
        )

    def find(self, store: LocalStore) -> Checkpoint | None:
        """Return the checkpoint from which an attempt resumes."""
        head = find_run(store, RUN).head
        keys = head.checkpoints if head else ()
        return read_newest_usable(store, RUN, keys, fit=0, schema=self.schema)

    def restore(self, found: Checkpoint) -> None:
        """Restore all that a resumed fit restores before its first batch."""
        restore.compare_model(self.model, found.key, found.manifest)
        sizes = {file.path: file.size for file in found.manifest.files if not file.whole}
        with self.held.resuming_files(found.state["callbacks"], sizes):
            files = [path for path in sizes if self.held.may_write(path)]
            assert all(path.startswith(("log.csv", "ck/", "board/")) for path in files)
        restore.restore_training(self.model, self.held, found)
        random_state.restore_random_state(found.state["randomness"])
        data = DataTracker(ExactnessGuard())
        data.observe(iter(shuffled()))
        data.restore(iterator_states(found.arrays), found.state["data"], 1)
        written = set(self.held.replaced_files()) | set(self.held.append_only_files())
        assert all(path.startswith(("log.csv", "ck/", "board/")) for path in written)


@pytest.fixture(scope="module")
def resuming() -> Resuming:
    """Return the model that is restored from each document."""
    return Resuming()


def use(store: LocalStore, resuming: Resuming, found: Checkpoint | None) -> None:
    """Show the run, and restore the checkpoint that was found."""
    with TemporaryDirectory(dir=MEMORY) as folder, chdir(folder):
        show(store, Path(folder, "m.safetensors"))
        if found:
            with suppress(*EXPECTED):
                resuming.restore(found)
        names = {path.name for path in Path().iterdir()}
        assert names <= {"m.safetensors", "log.csv", "ck", "board"}


def check(forged: ForgedRun, resuming: Resuming, count: int) -> None:
    """Let everything read `count` documents."""
    store_before = sorted(p.name for p in (forged.folder / "runs").rglob("*"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    number = itertools.count()

    @examples(count)
    @given(DOCUMENTS)
    def all_read(changes: tuple[list[Mutation], list[Mutation]]) -> None:
        with Changed(forged, *changes) as store:
            inspect(store)
            found = None
            with suppress(*EXPECTED):
                found = resuming.find(store)
            if not next(number) % USED_ONCE_IN:
                use(store, resuming, found)

    all_read()
    assert sorted(p.name for p in (forged.folder / "runs").rglob("*")) == store_before
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < MAX_MEMORY


def test_everything_reads_any_document(forged: ForgedRun, resuming: Resuming) -> None:
    """No document makes a tool or a restore fail in an unexpected way."""
    check(forged, resuming, TOOLS)


@pytest.mark.soak
@pytest.mark.timeout(0)  # about twenty minutes
def test_everything_reads_many_documents(forged: ForgedRun, resuming: Resuming) -> None:
    """As above, with more documents."""
    check(forged, resuming, TOOLS * LOTS)


def test_any_document_ends_a_command_in_a_line(forged: ForgedRun) -> None:
    """The commands themselves: a defined exit code, and no traceback."""

    @examples(COMMANDS)
    @given(DOCUMENTS)
    def commands(changes: tuple[list[Mutation], list[Mutation]]) -> None:
        with TemporaryDirectory(dir=MEMORY) as folder, Changed(forged, *changes) as store:
            export = ("export", RUN, "--to", f"{folder}/m.safetensors")
            for command in (
                ("ls",),
                ("show", RUN),
                ("show", RUN, "--json"),
                ("verify", RUN),
                ("prune", "--yes", "--dry-run"),
                ("report", RUN),
                ("status",),
                export,
            ):
                where = (store.uri,) if command == ("ls",) else ("--store", store.uri)
                ended = CliRunner().invoke(app, [*command, *where])
                assert ended.exit_code in (0, 1, 2, 78), ended.output
                assert not ended.exception or isinstance(ended.exception, SystemExit)

    commands()


def test_any_document_lets_an_attempt_train_or_refuse(forged: ForgedRun, tmp_path: Path) -> None:
    """Whole attempts: each trains to the end, or ends with one of keepfit's exit codes."""
    number = iter(range(10**6))

    @examples(FITS)
    @given(DOCUMENTS)
    def attempts(changes: tuple[list[Mutation], list[Mutation]]) -> None:
        folder = tmp_path / str(next(number))
        with Changed(forged, *changes):
            shutil.copytree(forged.folder, folder)
        try:
            resumed = resume(folder)
        except AttemptEnded:
            return
        assert len(resumed.epochs) <= TRAINING.fit["epochs"]

    attempts()
