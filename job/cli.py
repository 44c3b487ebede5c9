"""The `keepfit` command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from keepfit.callbacks.errors import EXIT_REFUSED, ConfigurationError
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.s3.options import RequestOptions
from keepfit.job import log_output, pid1, versions
from keepfit.job.commands import infra, jobs, plan, stores
from keepfit.job.commands.failures import fail
from keepfit.job.commands.options import Deterministic, Exact, OnlyExplicit, RunName, SaveEvery
from keepfit.job.notice_settings import NoticeSettings, OnNotice

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


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False})
def run(
    script: Annotated[Path, typer.Argument(help="A Keras script.")],
    args: Annotated[list[str] | None, typer.Argument(help="Arguments of the script.")] = None,
    code: Annotated[
        str | None,
        typer.Option(help="Digest of the code with SCRIPT that `keepfit submit` has stored."),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Where checkpoints are stored. [default: file://./runs]")
    ] = None,
    run_name: RunName = None,
    save_every: SaveEvery = None,
    deterministic: Deterministic = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over; the old run is moved aside, not deleted.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue with other ARGS or a changed SCRIPT.")
    ] = False,
    exact: Exact = False,
    only_explicit: OnlyExplicit = False,
    on_notice: Annotated[
        OnNotice | None,
        typer.Option(help="Train on until a known deadline, or save and exit. [default: train-on]"),
    ] = None,
    grace: Annotated[
        str | None, typer.Option(help="Time from SIGTERM to SIGKILL. [default: 30s]")
    ] = None,
    watch: Annotated[
        str | None, typer.Option(help="A file or URL whose existence is a notice.")
    ] = None,
    leave_at_once: Annotated[
        bool,
        typer.Option("--leave-at-once", help="On AWS Batch, exit before the instance is gone."),
    ] = False,
    preempted_exit_code: Annotated[
        int | None, typer.Option(help="Exit code in place of 75, if a scheduler requires another.")
    ] = None,
) -> None:
    """Run SCRIPT as `python SCRIPT ARGS` would, each of its fits resumable after any interruption.

    Exit codes: 0 trained to the end; 74 the final state could not be saved; 75 preempted, run it
    again to continue; 76 a newer attempt owns the run; 77 the job was cancelled; 78 the
    configuration or a checkpoint does not fit; otherwise the script's own.
    """
    if code is None and not script.is_file():
        fail(f"there is no script {str(script)!r}")
    given = {
        "STORE": store,
        "RUN": run_name,
        "SAVE_EVERY": save_every,
        "FRESH": fresh or None,
        "RESUME": resume or None,
        "EXACT": exact or None,
        "ONLY_EXPLICIT": only_explicit or None,
        "ON_NOTICE": on_notice,
        "GRACE": grace,
        "WATCH": watch,
        "LEAVE_AT_ONCE": leave_at_once or None,
        "PREEMPTED_EXIT_CODE": preempted_exit_code,
    }
    os.environ.update({f"KEEPFIT_{k}": str(v) for k, v in given.items() if v not in (None, "")})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    try:
        RequestOptions.of(os.environ)  # before TensorFlow is imported, which takes seconds
    except StorageError as error:
        fail(str(error), EXIT_REFUSED)
    from keepfit.callbacks.engine import session
    from keepfit.callbacks.launch import process as launch
    from keepfit.callbacks.settings import Settings
    from keepfit.job import batch, runner

    launch.begin(launch.Launch.of_script(script, args or []))
    try:
        settings = Settings.resolve()
        notices = NoticeSettings.resolve()
    except ConfigurationError as error:
        fail(str(error))
    pid1.supervise_if_pid1()
    pid1.warn_if_behind_shell()
    job = batch.BatchJob(os.environ.get(batch.JOB_ID_VARIABLE), settings.store, settings.run)

    def prepare() -> None:
        session.current().start_prefetch(settings)
        batch.prepare_attempt(job, code, script)
        if deterministic:
            runner.set_deterministic()

    raise typer.Exit(
        runner.run_script(
            script, args or [], notices, prepare, only_explicit=settings.only_explicit
        )
    )


stores.register(app)
plan.register(app)
infra.register(app)
jobs.register(app)


def main() -> None:
    """Run the `keepfit` command; the entry point of the distribution."""
    app(prog_name="keepfit")
