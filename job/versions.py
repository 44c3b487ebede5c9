"""`keepfit --version`: the versions that a report of an error needs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

import typer

_DISTRIBUTIONS: Final = {
    "keepfit": ("keepfit",),
    "Keras": ("keras",),
    "TensorFlow": ("tensorflow", "tensorflow-cpu"),
}
"""Of each program, the distributions that it may come from."""


def installed_versions() -> str:
    """Return the versions of what is installed, as text. Nothing is imported for it."""
    found = [f"{name} {_version_of(names)}" for name, names in _DISTRIBUTIONS.items()]
    return ", ".join([*found, f"Python {platform.python_version()}"])


def _version_of(distributions: tuple[str, ...]) -> str:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "is not installed"


def _show(asked: bool) -> None:
    if asked:
        typer.echo(installed_versions())
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", is_eager=True, callback=_show, help="Show the versions of keepfit and Keras."
    ),
]
