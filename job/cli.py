"""The `keepfit` command. The module of a command is imported when that command is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

from keepfit.callbacks.environment_variables import warn_of_unknown_variables
from keepfit.job import log_output, versions

MODULES: Final = {
    "run": "run",
    "ls": "stores",
    "show": "stores",
    "verify": "stores",
    "export": "stores",
    "prune": "stores",
    "report": "reports",
    "plan": "plan",
    "drill": "drill",
    "infra": "deployment.infra",
    "push": "batch.push",
    "submit": "batch.submit",
    "jobs": "batch.job_list",
    "logs": "batch.jobs",
    "cancel": "batch.jobs",
    "status": "batch.status",
}
"""The module in job/commands that registers a command, by the command's name."""

MARKUP: Final = "markdown"
"""How help is written; "rich" would drop [default: …] as markup."""


class _Commands(Mapping[str, Any]):
    """All commands by name, imported when they are asked for."""

    def __getitem__(self, name: str) -> Any:
        module = import_module(f"keepfit.job.commands.{MODULES[name]}")
        own = typer.Typer(rich_markup_mode=MARKUP)
        module.register(own)
        return get_group(own).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


class _LazyGroup(TyperGroup):
    """A group that knows its commands by name only."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment] # nothing is added to it


app = typer.Typer(
    name="keepfit",
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
    help="Keep Keras' model.fit running on machines that disappear.",
)


@app.callback()
def _keepfit(context: typer.Context, version: versions.Version = False) -> None:
    """Keep Keras' model.fit running on machines that disappear."""
    del version  # it is shown before
    log_output.configure(context.invoked_subcommand)
    warn_of_unknown_variables()


def main() -> None:
    """Run the `keepfit` command; the entry point of the distribution."""
    app(prog_name="keepfit")
