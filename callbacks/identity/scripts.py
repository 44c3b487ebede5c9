"""The script of a run: compared before the run is claimed, and recorded by the claim."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum, auto

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.head import COMPLETED, Head, ScriptRecord
from keepfit.callbacks.checkpoint.format.keys import attempt_of
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.launch.arguments import storable
from keepfit.callbacks.launch.process import Launch
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

_SHOWN = 300
"""Characters of each list of arguments in a log line."""

FIX = (
    "to train anew, use another name (--run NAME or KEEPFIT_RUN, or run= in the script) or --fresh "
    "(KEEPFIT_FRESH=1); --resume (KEEPFIT_RESUME=1) continues the run all the same"
)


class Verdict(Enum):
    """The outcome of a comparison of two scripts."""

    ACCEPT = auto()
    WARN = auto()
    REFUSE = auto()


@dataclass(frozen=True)
class ScriptComparison:
    """The outcome of a comparison of two scripts, and the difference that was found."""

    verdict: Verdict
    reason: str = ""


def record_of(launch: Launch) -> ScriptRecord | None:
    """Return what HEAD stores of the script of a process; None for a notebook."""
    if launch.script is None:
        return None
    return ScriptRecord(arguments=storable(launch.arguments), digest=launch.digest)


def is_changed(before: ScriptRecord | None, now: ScriptRecord | None) -> bool:
    """Return whether the script's file has changed, as far as both are known."""
    digests = [script.digest for script in (before, now) if script and script.digest]
    return len(set(digests)) > 1


def is_finished(head: Head) -> bool:
    """Return whether the run's script has come to its end, and nothing was trained since."""
    completed = head.baseline.get(COMPLETED)
    if completed is None:
        return False
    return all((attempt_of(head.run, key) or 0) <= completed for key in head.checkpoints[:1])


def values_at_end(head: Head) -> dict[str, int]:
    """Return the baseline value that tells that the script is completed, if it is.

    It is not if the last checkpoint is one within a fit, because an error of the script has ended
    it, for example.
    """
    trained = head.checkpoints[:1]
    is_completed = head.script is not None and trained and trained[0] in head.finished.values()
    return {COMPLETED: head.attempt} if is_completed else {}


def compare_scripts(
    before: ScriptRecord | None,
    now: ScriptRecord | None,
    *,
    finished: bool,
    resume: bool,
    wants_more: bool = False,
) -> ScriptComparison:
    """Compare the script of a run with the one that asks for it.

    Args:
        before: the script that HEAD records, if any.
        now: the script of this process, if any.
        finished: the run's script has come to its end.
        resume: the user accepts another script.
        wants_more: the finished training is asked for more epochs, so it goes on.
    """
    if before is None or now is None:
        return ScriptComparison(Verdict.ACCEPT)
    # Once more masked: an older version of keepfit may have stored more of an argument.
    if now.arguments not in (before.arguments, storable(before.arguments)):
        verdict = Verdict.ACCEPT if resume else Verdict.REFUSE
        return ScriptComparison(verdict, _differing(storable(before.arguments), now.arguments))
    if not is_changed(before, now):
        return ScriptComparison(Verdict.ACCEPT)
    if not finished:
        return ScriptComparison(Verdict.WARN, "the script has changed since the run's last attempt")
    reason = "the script has changed since the run was finished"
    if resume:
        return ScriptComparison(Verdict.ACCEPT, reason)
    return ScriptComparison(Verdict.WARN if wants_more else Verdict.REFUSE, reason)


def check_script(
    head: Head | None, now: ScriptRecord | None, *, resume: bool, wants_more: bool = False
) -> None:
    """Compare the script of this process with that of the run, and log what differs.

    Args:
        head: HEAD of the run; None for a new one.
        now, resume, wants_more: as for compare_scripts.

    Raises:
        Refused: it is another training.
    """
    if head is None or now is None:
        return
    if head.script is None:
        log.info(
            events.SCRIPT_UNRECORDED,
            run=head.run,
            reason="the run has no record of its script, as those of keepfit 0.1; it is not "
            "compared this time, and recorded for the next",
        )
        return
    found = compare_scripts(
        head.script, now, finished=is_finished(head), resume=resume, wants_more=wants_more
    )
    if found.verdict is Verdict.REFUSE:
        log.error(events.REFUSED, run=head.run, reason=found.reason, fix=FIX)
        raise Refused
    if found.verdict is Verdict.WARN:
        fix = "to train anew instead, use another --run NAME or --fresh"
        log.warning(events.SCRIPT_CHANGED, run=head.run, reason=found.reason, fix=fix)
    elif found.reason:
        log.info(events.SCRIPT_CHANGED, run=head.run, reason=f"{found.reason}; --resume accepts it")


def _differing(before: Sequence[str], now: Sequence[str]) -> str:
    """Describe the difference of two lists of arguments, with the options that it belongs to."""
    old: list[str] = []
    new: list[str] = []
    for tag, i, end, j, to in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        # The option before a value, which is equal in both.
        option = before[i - 1 : i] if i and j and before[i - 1].startswith("-") else ()
        old += [*(option if end > i else ()), *before[i:end]]
        new += [*(option if to > j else ()), *now[j:to]]
    return f"the arguments differ: {_shown(old)} in the run, {_shown(new)} now"


def _shown(arguments: Sequence[str]) -> str:
    """Return arguments as a shell takes them; of many, the first ones and how many there are."""
    if not arguments:
        return "none"
    text = shlex.join(arguments)
    if len(text) <= _SHOWN:
        return f"[{text}]"
    return f"[{text[:_SHOWN]}…] ({len(arguments)} arguments, {len(text)} characters)"
