"""A server that forks a process per run of an example, so that TensorFlow is imported once.

    python -m tests.examples.server

It reads requests, one JSON object per line: {"script": …, "folder": …, "kill": a number of hooks or
null, "options": those of `keepfit run`, or null for plain Keras}. The forked process runs the
script in the folder, and is killed with SIGKILL at that number of its own calls of hooks.
The answer is {"code": …}: the exit code, or the negative number of the signal.

Each process writes to `observed.json` beside the folder: the number of hooks that Keras has called,
and the variables and the history of each `fit`. A process that is killed writes the moment in words
to `kill-N`, the N-th one in a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    import keras
    import keras_tuner  # noqa: F401
    import tensorflow as tf

    import keepfit.callbacks.keras.resumable
    import keepfit.job.runner  # noqa: F401
from keepfit.callbacks.training import variables
from keepfit.job import cli

HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_begin",
    "on_test_batch_end",
    "on_test_end",
    "on_epoch_end",
    "on_train_end",
)
"""The hooks of Keras' callbacks at which a process can be killed."""


class Observer:
    """Counts the calls to hooks, kills the process at one of them, and notes the results of fits.

    It replaces methods of Keras' CallbackList, so that the script needs no callback for it.
    """

    def __init__(self, kill: int | None):
        self._kill = kill
        self._fit = 0
        self._epoch = 0
        self.hooks = 0
        self.fits: list[dict[str, Any]] = []

    def install(self) -> None:
        """Wrap each hook of Keras' CallbackList."""
        for name in HOOKS:
            setattr(keras.callbacks.CallbackList, name, self._wrapped(name))

    def _wrapped(self, name: str) -> Callable[..., None]:
        original = getattr(keras.callbacks.CallbackList, name)

        def hook(callbacks: keras.callbacks.CallbackList, *args: Any, **kwargs: Any) -> None:
            self.hooks += 1
            if name == "on_train_begin":
                self._fit, self._epoch = self._fit + 1, 0
            elif name == "on_epoch_begin":
                self._epoch = args[0] + 1
            if self.hooks == self._kill:
                note(self._moment(name, *args))
                os.kill(os.getpid(), signal.SIGKILL)
            original(callbacks, *args, **kwargs)
            if name == "on_train_end":
                self.fits.append(result_of(callbacks))

        return hook

    def _moment(self, hook: str, *args: Any) -> str:
        """Return in words when a hook is called; fits are counted within the process."""
        fit = f"fit {self._fit}, " if self._fit > 1 else ""
        match hook:
            case "on_train_begin":
                return f"{fit}begin"
            case "on_train_end":
                return f"{fit}end"
            case "on_epoch_begin":
                return f"{fit}begin of epoch {self._epoch}"
            case "on_epoch_end":
                return f"{fit}end of epoch {self._epoch}"
            case "on_train_batch_begin" | "on_train_batch_end":
                return f"{fit}epoch {self._epoch}, batch {args[0] + 1}"
            case _ if len(self.fits) == self._fit:
                return "final evaluation"
            case _:
                return f"{fit}epoch {self._epoch}, validation"


def note(moment: str) -> None:
    """Write the moment to a new file `kill-N`. keepfit would cut back one that hooks append to."""
    number = len(list(Path("..").glob("kill-*"))) + 1
    Path(f"../kill-{number}").write_text(moment)


def result_of(callbacks: keras.callbacks.CallbackList) -> dict[str, Any]:
    """Return the history of the fit that has ended, and a SHA-256 of each variable, by name."""
    (history,) = [c for c in callbacks.callbacks if type(c) is keras.callbacks.History]
    digests = {
        named.spec.name: hashlib.sha256(named.variable.numpy().tobytes()).hexdigest()
        for named in variables.find_variables(history.model)
    }
    return {"epochs": history.epoch, "history": history.history, "variables": digests}


def run_plainly(script: str) -> None:
    """Run the script as `python script` does, with deterministic operations."""
    tf.config.experimental.enable_op_determinism()
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


def run_in_keepfit(script: str, options: list[str]) -> None:
    """Run the script as `keepfit run --deterministic script` does."""
    sys.argv = ["keepfit", "run", "--deterministic", *options, script]
    cli.main()


def child(request: dict[str, Any]) -> None:
    """Run the script as the forked process, and exit."""
    os.chdir(request["folder"])
    tempfile.tempdir = None
    for stream, name in ((1, "out"), (2, "err")):
        log = os.open(f"../{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, stream)
    observer = Observer(request["kill"])
    observer.install()
    code = 1
    try:
        if request["options"] is None:
            run_plainly(request["script"])
        else:
            run_in_keepfit(request["script"], request["options"])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        observed = {"hooks": observer.hooks, "fits": observer.fits}
        Path("../observed.json").write_text(json.dumps(observed, default=float))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Run one process per request, one after another."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            child(json.loads(line))
        _, status, usage = os.wait4(pid, 0)
        answer = {"code": os.waitstatus_to_exitcode(status), "cpu": usage.ru_utime + usage.ru_stime}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
