"""`keepfit run`: a script as a job."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from keepfit.callbacks.errors import EXIT_REFUSED, ConfigurationError
from keepfit.callbacks.journal.terms import ProcessEnd
from keepfit.callbacks.launch.command import PythonCommand
from keepfit.callbacks.runner_settings import (
    LimitSettings,
    NoticeSettings,
    NotificationSettings,
    OnNotice,
    PriceSettings,
    RestartSettings,
)
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.s3.options import RequestOptions
from keepfit.job import pid1
from keepfit.job.commands import options
from keepfit.job.commands.failures import fail
from keepfit.job.commands.options import (
    Deterministic,
    Exact,
    HourlyPrice,
    MaxCost,
    MaxHours,
    Module,
    OnDemandPrice,
    OnlyExplicit,
    RunName,
    SaveEvery,
)
from keepfit.job.machine.caches import use_writable_folders
from keepfit.job.process.program import check_program, command_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    arguments = {"allow_interspersed_args": False, "ignore_unknown_options": False}
    app.command(context_settings=arguments)(run)


def run(
    script: Annotated[str, typer.Argument(help="A Keras script, or with -m a module.")],
    args: Annotated[list[str] | None, typer.Argument(help="Arguments of the script.")] = None,
    module: Module = False,
    code: Annotated[
        str | None,
        typer.Option(help="Digest of the code with SCRIPT that `keepfit submit` has stored."),
    ] = None,
    requirements: Annotated[
        str | None,
        typer.Option(help="Digest of the packages that `keepfit submit` has stored."),
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
    notify: options.Notify = None,
    stalled_after: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time without a batch until `stalled`. [default: 30min]"),
    ] = None,
    restarts: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Up to N more attempts here after one that was killed or preempted. [default: 0]",
        ),
    ] = None,
    hourly_price: HourlyPrice = None,
    on_demand_price: OnDemandPrice = None,
    max_hours: MaxHours = None,
    max_cost: MaxCost = None,
    preempted_exit_code: Annotated[
        int | None, typer.Option(help="Exit code in place of 75, if a scheduler requires another.")
    ] = None,
) -> None:
    """Run SCRIPT as `python SCRIPT ARGS` would, each of its fits resumable after any interruption.

    With -m, SCRIPT is the name of a module, as for `python -m`.

    Exit codes: 0 trained to the end; 74 the final state could not be saved; 75 preempted, run it
    again to continue; 76 a newer attempt owns the run; 77 the job was cancelled; 78 the
    configuration or a checkpoint does not fit; 79 a limit is reached; otherwise the script's own.
    """
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
        "NOTIFY": " ".join(notify or ()),
        "STALLED_AFTER": stalled_after,
        "RESTARTS": restarts,
        "HOURLY_PRICE": hourly_price,
        "ON_DEMAND_PRICE": on_demand_price,
        "MAX_HOURS": max_hours,
        "MAX_COST": max_cost,
        "PREEMPTED_EXIT_CODE": preempted_exit_code,
    }
    os.environ.update({f"KEEPFIT_{k}": str(v) for k, v in given.items() if v not in (None, "")})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    program = command_of(script, args or [], module=module)
    try:
        if code is None:
            check_program(program)
        RequestOptions.of(os.environ)  # before TensorFlow is imported, which takes seconds
        notices, allowed = NoticeSettings.resolve(), RestartSettings.resolve()
        PriceSettings.resolve()
        LimitSettings.resolve()
        notifications = NotificationSettings.resolve()
    except ConfigurationError as error:
        fail(str(error))
    except StorageError as error:
        fail(str(error), EXIT_REFUSED)
    pid1.warn_if_behind_shell()
    attempt = None
    if allowed.restarts:
        from keepfit.job.process import restarts as restarting

        attempt = restarting.supervise_attempts(allowed.restarts, notices.preempted_exit_code)
    else:
        pid1.supervise_if_pid1()
    use_writable_folders(os.environ)  # before Keras is imported, which reads KERAS_HOME
    if attempt and attempt.script_has_ended:
        os.environ.pop("KEEPFIT_FRESH", None)  # it would begin the finished run anew
    previous = attempt.previous_end if attempt else None
    exit_code = _run_attempt(
        program,
        notices,
        notifications,
        code,
        previous,
        requirements=requirements,
        deterministic=deterministic,
    )
    if attempt and exit_code != notices.preempted_exit_code:
        attempt.report_end()
    raise typer.Exit(exit_code)


def _run_attempt(
    program: PythonCommand,
    notices: NoticeSettings,
    notifications: NotificationSettings,
    code: str | None,
    previous: ProcessEnd | None,
    *,
    requirements: str | None,
    deterministic: bool,
) -> int:
    """Run the program in this process, and return its exit code.

    Args:
        code: the digest of the code that `keepfit submit` has stored, if it did.
        requirements: the digest of the packages that it has stored, if there are any.
        previous: how the process of the attempt before this one has ended, if that is known.
    """
    from keepfit.callbacks.engine import session
    from keepfit.callbacks.launch import process as launch
    from keepfit.callbacks.settings import Settings
    from keepfit.job import batch, runner
    from keepfit.job.commands import usage
    from keepfit.job.notifications.notifier import notifier

    launch.begin(launch.Launch.of_program(program))
    try:
        settings = Settings.resolve()
    except ConfigurationError as error:
        fail(str(error))
    job = batch.BatchJob(os.environ.get(batch.JOB_ID_VARIABLE), settings.store, settings.run)

    def prepare() -> None:
        session.current().previous = previous
        session.current().start_prefetch(settings)
        batch.prepare_attempt(job, code, program, requirements)
        if deterministic:
            runner.set_deterministic()

    with notifier(notifications, settings.run) as observer:
        return runner.run_program(
            program,
            notices,
            prepare,
            only_explicit=settings.only_explicit,
            observer=observer,
            usage=usage.usage_rules(settings),
        )
