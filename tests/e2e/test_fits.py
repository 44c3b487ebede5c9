"""Scripts with several fits, killed in random ones: each fit keeps its own training."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from textwrap import dedent

import pytest

from tests.checkpoint.samples import document_at, write_document
from tests.e2e.cases import OFTEN, PRELUDE
from tests.e2e.process import Ended, run
from tests.rotation import marks_of

FITS = '''
KILL_AT = int(os.environ.get("KILL_AT", "0"))
found = {}


class Kill(Stateless):
    """Kills the process after KILL_AT batches of it, counted over all fits."""

    batches = 0

    def on_train_batch_end(self, batch, logs=None):
        Kill.batches += 1
        if Kill.batches == KILL_AT:
            os.kill(os.getpid(), signal.SIGKILL)


def train(model, x, y, epochs=2, **options):
    callbacks = [Resumable([Kill()], **options)]
    return model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)


def digest(model):
    values = [v.numpy().tobytes() for v in [*model.variables, *model.optimizer.variables]]
    return hashlib.sha256(b"".join(values)).hexdigest()


def done(name):
    """Return the result that an earlier attempt has written, if the script skips it then."""
    path = Path(f"{name}.json")
    return json.loads(path.read_text()) if path.exists() and os.environ.get("SKIP") else None


def finished(name, **result):
    Path(f"{name}.json.tmp").write_text(json.dumps(result))
    os.replace(f"{name}.json.tmp", f"{name}.json")
    return result


y = x.sum(1)
'''

FOLDS = """
for fold in range(10):
    if (result := done(f"fold-{fold}")) is None:
        keras.utils.set_random_seed(fold if os.environ.get("SKIP") else 7)
        rows = np.arange(64) % 10 != fold
        model = build()
        history = train(model, x[rows], y[rows])
        result = finished(f"fold-{fold}", history=history.history, digest=digest(model))
    found[fold] = result
"""

SWEEP = """
for rate in (0.1, 0.01, 0.001):
    for units in (3, 5):
        name = f"{rate}-{units}"
        if (result := done(name)) is None:
            keras.utils.set_random_seed(1)
            model = build(units)
            model.optimizer.learning_rate = rate
            history = train(model, x, y)
            result = finished(name, history=history.history, digest=digest(model))
        found[name] = result
"""

STAGES = """
model = build()
weights = Path("pretrained.keras")
if weights.exists() and os.environ.get("SKIP"):
    model = keras.models.load_model(weights)
else:
    train(model, x, -y)
    model.save("tmp.keras")
    os.replace("tmp.keras", weights)
model.compile(keras.optimizers.Adam(0.01), "mse")
train(model, x, y)
second = train(model, x, y, epochs=3)
found["tuned"] = {"history": second.history, "digest": digest(model)}
encoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
encoder.compile("sgd", "mse")
found["encoder"] = train(encoder, x, x[:, :2]).history
"""

END = """
Path("result.json").write_text(json.dumps(found))
"""

SCRIPTS = {"folds": (FOLDS, 150), "sweep": (SWEEP, 90), "stages": (STAGES, 60)}
"""Each script, with the number of batches that it trains, or fewer."""

CASES = [
    pytest.param(
        name,
        skip,
        id=f"{name}-{'skip' if skip else 'repeat'}",
        marks=marks_of(number),
    )
    for number, (name, skip) in enumerate(
        [
            ("folds", "1"),
            ("folds", ""),
            ("sweep", ""),
            ("sweep", "1"),
            ("stages", "1"),
            ("stages", ""),
        ]
    )
]
"""One of two kinds of each script; each day, one half of them belongs to the quick tests."""


def write(folder: Path, script: str) -> Path:
    """Write train.py into the folder, which is created. Return the folder."""
    folder.mkdir()
    (folder / "train.py").write_text(PRELUDE + dedent(FITS) + script + END)
    return folder


def attempt(folder: Path, *flags: str, kill_at: int = 0, **env: str) -> Ended:
    """Run train.py once, killed after so many batches."""
    flags = flags or OFTEN
    return run(folder, *flags, "train.py", KILL_AT=str(kill_at), **env)


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(("name", "skip"), CASES)
def test_killed_in_random_fits(tmp_path, name, skip):
    """Killed five times, whether the script skips what it has finished or repeats it."""
    script, batches = SCRIPTS[name]
    draw = random.Random(f"{name} {skip}")
    whole, killed = write(tmp_path / "whole", script), write(tmp_path / "killed", script)
    ended = attempt(whole, SKIP=skip)
    assert ended.code == 0, ended.err
    codes = set()
    for _ in range(5):
        ended = attempt(killed, kill_at=draw.randint(1, batches // 3), SKIP=skip)
        codes.add(ended.code)
        assert not ended.named("fit_ambiguous"), ended.err
    assert codes <= {-signal.SIGKILL, 0}
    assert -signal.SIGKILL in codes
    ended = attempt(killed, SKIP=skip)
    assert ended.code == 0, ended.err
    assert result(killed) == result(whole)


EQUAL = """
for stage in range(3):
    if done(f"stage-{stage}") is None:
        if os.environ.get("NAMED"):
            keras.utils.set_random_seed(stage)
        model = build()
        name = f"stage-{stage}" if os.environ.get("NAMED") else None
        history = train(model, x, y, name=name)
        finished(f"stage-{stage}", digest=digest(model), history=history.history)
    found[stage] = json.loads(Path(f"stage-{stage}.json").read_text())
"""


def test_equal_fits_are_ambiguous(tmp_path):
    """Fits with equal models and data are told apart by their order, which the log says once."""
    whole, killed = write(tmp_path / "whole", EQUAL), write(tmp_path / "killed", EQUAL)
    ended = attempt(whole)
    assert ended.code == 0, ended.err
    line = ended.one("fit_ambiguous")
    assert "Resumable(name=" in line["fix"]
    assert attempt(killed, kill_at=25).code == -signal.SIGKILL
    ended = attempt(killed)
    assert ended.code == 0, ended.err
    assert ended.one("fit_ambiguous")
    assert result(killed) == result(whole)


def test_equal_fits_are_refused_by_exact(tmp_path):
    """The first one may train: that another one is equal is known only when that begins."""
    folder = write(tmp_path / "exact", EQUAL)
    ended = attempt(folder, *OFTEN, "--exact")
    assert ended.code == 78, ended.err
    assert ended.one("refused")["warning"] == "fit_ambiguous"
    assert (folder / "stage-0.json").exists()


def test_equal_fits_with_names(tmp_path):
    """With names of their own they are exact, also in a script that skips the finished ones."""
    whole, killed = write(tmp_path / "whole", EQUAL), write(tmp_path / "killed", EQUAL)
    assert attempt(whole, NAMED="1", SKIP="1").code == 0
    assert attempt(killed, kill_at=25, NAMED="1", SKIP="1").code == -signal.SIGKILL
    ended = attempt(killed, *OFTEN, "--exact", NAMED="1", SKIP="1")
    assert ended.code == 0, ended.err
    assert result(killed) == result(whole)


NEW_IN_HEAD = ("script", "fits", "continuations")
NEW_IN_STATE = ("fit", "input", "hyperparameters", "variables", "stopping")


def as_keepfit_0_1(runs: Path) -> None:
    """Remove everything from a store that keepfit 0.1 has not written."""
    for path in [runs / "HEAD.json", *runs.glob("checkpoints/*.json")]:
        found = document_at(path)
        found = {name: value for name, value in found.items() if name not in NEW_IN_HEAD}
        for name in NEW_IN_STATE:
            found.get("state", {}).pop(name, None)
        write_document(path, found)


def test_a_store_of_keepfit_0_1(tmp_path):
    """Its fits are told apart by their order, as then, and the log says so."""
    whole, killed = write(tmp_path / "whole", STAGES), write(tmp_path / "killed", STAGES)
    assert attempt(whole).code == 0
    assert attempt(killed, kill_at=25).code == -signal.SIGKILL
    as_keepfit_0_1(killed / "runs/train")
    ended = attempt(killed)
    assert ended.code == 0, ended.err
    assert ended.one("fits_by_number")
    assert result(killed) == result(whole)
