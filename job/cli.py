"""The `keepfit` command."""

from __future__ import annotations

import typer

from keepfit.callbacks.environment_variables import warn_of_unknown_variables
from keepfit.job import log_output, versions
from keepfit.job.commands import (
    drill,
    infra,
    job_list,
    jobs,
    plan,
    reports,
    run,
    status,
    stores,
    submit,
)

app = typer.Typer(
    name="keepfit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # "rich" would drop [default: …] as markup
    help="Keep Keras' model.fit running on machines that disappear.",
)


@app.callback()
def _keepfit(context: typer.Context, version: versions.Version = False) -> None:
    """Keep Keras' model.fit running on machines that disappear."""
    del version  # it is shown before
    log_output.configure(context.invoked_subcommand)
    warn_of_unknown_variables()


run.register(app)
stores.register(app)
reports.register(app)
plan.register(app)
drill.register(app)
infra.register(app)
submit.register(app)
jobs.register(app)
job_list.register(app)
status.register(app)


def main() -> None:
    """Run the `keepfit` command; the entry point of the distribution."""
    app(prog_name="keepfit")
