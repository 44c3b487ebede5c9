"""Run a script as a job: as `python SCRIPT ARGS` would, but resumable after interruptions."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keepfit.callbacks import events
from keepfit.callbacks.engine import session
from keepfit.callbacks.errors import (
    EXIT_PREEMPTED,
    EXIT_UNSAVED,
    AttemptEnded,
    LimitReached,
    Preempted,
)
from keepfit.callbacks.keras.implicit import hold_every_fit
from keepfit.callbacks.keras.progress_bars import lines_for_bars
from keepfit.callbacks.launch.command import PythonCommand
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.runner_settings import NoticeSettings, PriceSettings
from keepfit.job import batch_hold
from keepfit.job.machine.facts import (
    PRICE_DELAY,
    PriceFinder,
    PriceLookup,
    collecting_machine_facts,
)
from keepfit.job.notices import signals
from keepfit.job.notices.deadline import watch_deadline
from keepfit.job.notices.watcher import watch_machine
from keepfit.job.notifications.notification import AttemptEnd
from keepfit.job.notifications.observer import AttemptObserver
from keepfit.job.process.ending import Ending, run_to_end
from keepfit.job.process.import_pause import collection_paused_in_imports
from keepfit.job.process.threads import wait_for_threads
from keepfit.job.reports.publish import publish_page

if TYPE_CHECKING:
    from keepfit.job.notices.limit import LimitWatcher

log = get_logger()

EXIT_SECONDS = 3.0
"""Seconds for which a preempted process waits for threads of the script."""


def no_preparation() -> None:
    """Do nothing: the script is available already."""


WatchLimits = Callable[
    [session.Session, PriceFinder], "AbstractContextManager[LimitWatcher | None]"
]
"""Watches the limits of a session's runs within a block; finds the price of the machine by the
second argument."""


def no_limits(
    current: session.Session, price: PriceFinder
) -> AbstractContextManager[LimitWatcher | None]:
    """Watch nothing: the run has no limits, and does not pay for them."""
    del current, price
    return nullcontext()


@dataclass(frozen=True)
class UsageRules:
    """What a run may use, and what this machine costs.

    Attributes:
        price: asks for the price of this machine, if the user has not given it.
        needs_price: a limit needs the price before the first batch.
        watch: watches the limits of the run within a block.
    """

    price: PriceLookup | None = None
    needs_price: bool = False
    watch: WatchLimits = no_limits


def run_program(
    program: PythonCommand,
    settings: NoticeSettings,
    prepare: Callable[[], None] = no_preparation,
    *,
    observer: AttemptObserver,
    only_explicit: bool = False,
    usage: UsageRules = UsageRules(),
) -> int:
    """Run a script or module and return the exit code of the process.

    An exception of the script is reported as Python would report it, without keepfit's frames.

    Args:
        prepare: called before the script. It may take long: signals end it as they end a script.
        observer: learns what becomes of the attempt.
        only_explicit: only a `fit` with a Resumable is resumable.
        usage: the limits of the run.
    """
    holding = nullcontext() if only_explicit else hold_every_fit()
    with (
        session.open_session() as current,
        _no_traceback_of_ended_threads(),
        signals.trap_signals(current.preemption, settings.grace_seconds),
        watch_machine(current.preemption, settings, os.environ),
        collecting_machine_facts(
            os.environ,
            PriceSettings.resolve(),
            usage.price,
            price_delay=0.0 if usage.needs_price else PRICE_DELAY,
        ) as facts,
        usage.watch(current, facts.price_after) as limits,
        watch_deadline(current),
        observer.watching(current),
        lines_for_bars(),
        collection_paused_in_imports(),
        holding as every_fit,
    ):
        current.machine = facts.current
        ending: Ending | None = None
        try:
            ending = _run_to_ending(program, current, settings, prepare)
            reason = session.reason_of(current.preemption.end, failed=ending.code != 0)
            current.ended(reason, ending.code, ending.detail)
            if ending.preempted:
                _report_preemption(current)
            if ending.limited and limits:
                current.finish_saves()
                limits.report_end()
            current.log_goodput()
            observer.attempt_ends(_end_of(ending, current))
            if ending.code == 0 and not current.preemption.ends_process:
                for store, run in current.claimed_runs():
                    publish_page(store, run)
            if ending.preempted:
                batch_hold.hold_until_gone(current.preemption)
        except Preempted:  # a signal arrived after the script had ended
            if ending is None or not ending.limited:
                ending = Ending(settings.preempted_exit_code, preempted=True)
                observer.attempt_ends(_end_of(ending, current))
    if ending.preempted or ending.limited:
        _limit_exit_time(ending.code)
        return ending.code
    named = every_fit is not None and every_fit.has_named_other_training
    if ending.code == 0 and not current.used and not named:
        _report_nothing_resumable(program.target, only_explicit=only_explicit)
    return ending.code


def _end_of(ending: Ending, current: session.Session) -> AttemptEnd:
    """Return the end of the attempt as its observer learns of it."""
    notice = current.preemption.notice if ending.preempted else None
    source = notice.source if notice else None
    return AttemptEnd(ending.code, ending.preempted, source, ending.error)


@contextmanager
def _no_traceback_of_ended_threads() -> Iterator[None]:
    """End a thread in silence where keepfit has ended the attempt, as Python does for SystemExit.

    What happened has been logged; Python prints a traceback for classes derived from SystemExit.
    """
    previous = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, AttemptEnded):
            previous(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = previous


def _report_nothing_resumable(script: str, *, only_explicit: bool) -> None:
    """Log that an interruption would have made the script start over."""
    log.warning(
        events.NOT_RESUMABLE,
        script=script,
        reason="no fit of this script uses keepfit, so it starts over after an interruption",
        fix="leave out --only-explicit" if only_explicit else "train a keras.Model with its fit",
    )


def set_deterministic() -> None:
    """Make every operation return the same bits each time, and seed all generators with 0.

    A seed that the script sets itself overrides this one.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()


def _run_to_ending(
    program: PythonCommand,
    current: session.Session,
    settings: NoticeSettings,
    prepare: Callable[[], None],
) -> Ending:
    """Run the script and return how the attempt has ended, with the exit code of the process.

    If keepfit has ended the attempt, that decides the exit code, whatever the script has made of
    the exception. Threads that the script has left behind are part of it, unless a notice ends it.
    """
    ended = Ending(0)
    with suppress(AttemptEnded), current.preemption.recording_end():
        prepare()
        ended = run_to_end(program)
    if not isinstance(current.preemption.end, Preempted):
        with suppress(AttemptEnded), current.preemption.recording_end():
            wait_for_threads()
    end, notice = current.preemption.end, current.preemption.notice
    ends_process = current.preemption.ends_process
    if not (ends_process or end) or (notice and notice.source == signal.SIGINT.name):
        current.script_ended(completed=ended.code == 0 and not ends_process and not end)
    if isinstance(end, LimitReached):
        return Ending(end.code, limited=True)
    if end and end.code == EXIT_PREEMPTED:
        return Ending(settings.preempted_exit_code, preempted=True)
    if end:
        return Ending(end.code)
    if ended.code == 0 and current.unsaved:
        return Ending(EXIT_UNSAVED, detail="the final state could not be saved")
    return ended


def _report_preemption(current: session.Session) -> None:
    """Log the preemption, with the work that is in the store and the work that is lost."""
    current.finish_saves()
    end, notice = current.preemption.end, current.preemption.notice
    if not isinstance(end, Preempted):  # the store did not answer, which has been logged
        return
    lost = current.uncommitted_steps
    log.info(
        events.PREEMPTED,
        source=notice.source if notice else None,
        step=current.reached_step,
        saved=not lost,
        lost=lost,
    )


def _limit_exit_time(code: int) -> None:
    """End this process after EXIT_SECONDS if threads of the script keep it from ending."""
    others = [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon
    ]

    def end() -> None:
        threading.Event().wait(EXIT_SECONDS)
        log.warning(
            events.THREADS_ABANDONED,
            threads=others,
            reason=f"the process has to end, and threads of the script run {EXIT_SECONDS:.0f} s on",
            fix="start them with daemon=True, or end them when the script ends",
        )
        os._exit(code)

    if others:
        threading.Thread(target=end, name="keepfit-exit", daemon=True).start()
