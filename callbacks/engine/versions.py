"""The versions of the libraries that write a checkpoint."""

from __future__ import annotations

from importlib.metadata import version


def library_versions() -> dict[str, str]:
    """Return the versions that are stored in each manifest, by the names of the libraries."""
    import keras
    import tensorflow as tf

    return {
        "keepfit": version("keepfit"),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
