"""Keras callbacks that let `model.fit` outlive the machine it runs on."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks.resumable import Resumable

__all__ = ["Resumable"]


def __getattr__(name: str) -> Any:
    """Import Keras only when it is asked for: the command line answers without it."""
    if name == "Resumable":
        from callbacks.resumable import Resumable

        return Resumable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
