"""What keepfit supports: the versions of Keras and TensorFlow, the backend, the strategies.

Anything else is refused before a run is claimed: outside these limits a resumed training runs but
is not exact. Keras 3.3 and 3.5, for example, resume without an error and end with another model.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

Version = tuple[int, int]

SUPPORTED: Final[Mapping[str, tuple[Version, Version]]] = {
    "keras": ((3, 8), (3, 15)),
    "tensorflow": ((2, 18), (2, 21)),
}
"""The oldest and the newest minor version, both included, as in pyproject.toml."""


class Unsupported(Exception):
    """This process, or its model, is not what keepfit supports.

    Attributes:
        reason, fix: for the log.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


def check_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Check the backend and the versions of this process. Imports Keras and TensorFlow.

    Raises:
        Refused: one of them is not supported; the log names it, and the fix.
    """
    with _refusing():
        _check_environment(environ)


def is_supported(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether `check_environment` would refuse nothing. Imports Keras and TensorFlow."""
    try:
        _check_environment(environ)
    except Unsupported:
        return False
    return True


def _check_environment(environ: Mapping[str, str]) -> None:
    # Before the import, which fails where the backend's own package is not installed.
    if environ.get("KERAS_BACKEND"):
        _check_backend(environ["KERAS_BACKEND"], "KERAS_BACKEND")
    else:
        _check_backend(_backend_of_file(environ), "keras.json")
    if environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        raise Unsupported(
            "TF_USE_LEGACY_KERAS makes tf.keras the package tf_keras, which is Keras 2",
            "unset TF_USE_LEGACY_KERAS, and train a model of Keras 3",
        )
    import keras
    import tensorflow as tf

    for name, version in (("keras", keras.__version__), ("tensorflow", tf.__version__)):
        _check_version(name, version)
    _check_backend(keras.config.backend(), "this process")


def check_model(model: Any) -> None:
    """Check that keepfit can keep the training of this model exact.

    Raises:
        Refused: the model is not a Keras 3 model, or its strategy is not supported.
    """
    with _refusing():
        _check_model(model)


def _check_model(model: Any) -> None:
    import keras
    import tensorflow as tf

    if not isinstance(model, keras.Model):
        kind = f"{type(model).__module__.partition('.')[0]}.{type(model).__name__}"
        raise Unsupported(
            f"the model is a {kind}, not a model of Keras 3",
            "build it with `import keras` instead of `import tf_keras`",
        )
    distribute = tf.distribute
    for name, kinds in {
        "MultiWorkerMirroredStrategy": distribute.MultiWorkerMirroredStrategy,
        "ParameterServerStrategy": (
            distribute.ParameterServerStrategy,
            tf.compat.v1.distribute.experimental.ParameterServerStrategy,
        ),
    }.items():
        if isinstance(model.distribute_strategy, kinds):
            raise Unsupported(
                f"tf.distribute.{name} trains on several machines, which keepfit can't resume yet",
                "train on one machine: without a strategy, or with MirroredStrategy",
            )


def _check_version(name: str, version: str) -> None:
    match = re.match(r"(\d+)\.(\d+)", version)
    oldest, newest = SUPPORTED[name]
    if match is None or not oldest <= (int(match[1]), int(match[2])) <= newest:
        low, high = (".".join(map(str, limit)) for limit in (oldest, newest))
        raise Unsupported(
            f"{name} {version} is installed; a resumed training is exact with {low} to {high}",
            f"pip install '{name}=={high}.*'",
        )


def _backend_of_file(environ: Mapping[str, str]) -> str:
    """Return the backend that Keras' configuration file names, found and read as Keras does it.

    Source: keras/src/backend/config.py.
    """
    home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")  # noqa: S108 # nosec B108 # the folder that Keras takes
    path = Path(environ.get("KERAS_HOME") or home / ".keras", "keras.json").expanduser()
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        found = {}
    backend = found.get("backend") if isinstance(found, dict) else None
    return backend if isinstance(backend, str) else "tensorflow"


def _check_backend(backend: str, source: str) -> None:
    if backend != "tensorflow":
        raise Unsupported(
            f"{source} chooses the Keras backend {backend!r}, and keepfit supports TensorFlow only",
            "set KERAS_BACKEND=tensorflow",
        )


@contextmanager
def _refusing() -> Iterator[None]:
    """Log what is not supported, and refuse it."""
    try:
        yield
    except Unsupported as error:
        log.error(events.REFUSED, reason=error.reason, fix=error.fix)
        raise Refused from error
