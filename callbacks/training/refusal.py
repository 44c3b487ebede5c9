"""Reports about a checkpoint from which a `fit` can't resume, or does not need to."""

from __future__ import annotations

from collections.abc import Sequence

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training.continuation import Decision, Further

log = get_logger()


def refusal(checkpoint: str, reason: str) -> Refused:
    """Log why this script can't resume from the checkpoint; return the exception to raise.

    Args:
        checkpoint: the key of its manifest.
    """
    log.error(
        events.REFUSED,
        checkpoint=checkpoint,
        reason=reason,
        fix="undo the change, or start a new run with --run NAME or --fresh",
    )
    return Refused()


def check_end(checkpoint: str, position: Position, decision: Decision) -> None:
    """Check that a finished fit that would have to train on can reach the right result.

    Args:
        checkpoint: the key of the manifest of its final state.

    Raises:
        Refused: it can't.
    """
    if not position.finished or decision.further is not Further.UNKNOWABLE:
        return
    what = ", ".join(map(str, decision.changes))
    raise refusal(
        checkpoint,
        f"the finished run of {position.epoch + 1} epochs might have ended at another epoch with "
        f"the callbacks as they are now: {what}",
    )


def report_finished(checkpoint: Checkpoint, decision: Decision, epochs: int) -> None:
    """Log that the fit had already finished, and what it does about a request for another end.

    Args:
        epochs: the argument of `fit`.
    """
    position = checkpoint.manifest.position
    done = position.epoch + 1
    what = ", ".join(map(str, decision.changes))
    log.info(
        events.ALREADY_FINISHED,
        fit=position.fit + 1,
        epochs=done,
        step=position.step,
        fix="to train again, use --fresh or another --run NAME",
    )
    match decision.further:
        case Further.FEWER:
            log.warning(
                events.FEWER_EPOCHS,
                reason=f"fit asks for {epochs} epochs, the run is in epoch {done}",
                fix="the model is as the checkpoint has it; ask for more epochs to continue "
                "training",
            )
        case Further.EARLIER:
            log.warning(
                events.FEWER_EPOCHS,
                reason=f"the run of {done} epochs might have been stopped earlier: {what}",
                fix="the model is as the checkpoint has it; use --fresh or another --run NAME to "
                "train it with these callbacks",
            )
        case Further.STAYS_STOPPED:
            log.info(
                events.MORE_EPOCHS,
                reason=f"fit asks for {epochs} epochs, but {decision.by} has stopped the run in "
                f"epoch {done}, and would do so again",
                fix=f"change {decision.by} to train on; the result is that of {done} epochs",
            )


def report_training_on(decision: Decision, done: int, epochs: int) -> None:
    """Log that a finished fit trains on.

    Args:
        done: number of epochs that it has done.
    """
    if decision.further is Further.TRAINS_ON:
        reason = f"fit asks for {epochs} epochs, the finished run has {done}"
        unless = ""
    else:
        what = ", ".join(map(str, decision.changes))
        reason = f"the run was stopped in epoch {done}, and {what}"
        unless = ", unless it is stopped again"
    log.info(
        events.MORE_EPOCHS,
        reason=reason,
        fix=f"the run trains on from epoch {done} to {epochs}{unless}",
    )


def report_no_continuation(decision: Decision, done: int, epochs: int) -> None:
    """Log that a finished fit can't train on, because its state before its end is not kept."""
    what = ", ".join(map(str, decision.changes)) or f"fit asks for {epochs} epochs"
    log.warning(
        events.MORE_EPOCHS,
        reason=f"{what}, but of the finished run with {done} epochs, no state before its end is "
        "kept",
        fix="the result is that of the run as it was; to train it again, use --fresh or another "
        "--run NAME",
    )


def refuse_after_short_fit(checkpoint: Checkpoint, short: int) -> Refused:
    """Log that a fit can't train on after one that could not; return the exception to raise.

    Args:
        short: index of the earlier fit.
    """
    return refusal(
        checkpoint.key,
        f"more epochs are asked for, but fit {short + 1} of this script could not be trained on, "
        "so the result would be that of neither script",
    )


def report_stopped_again(by: Sequence[str], epoch: int) -> None:
    """Log that a fit that has been continued was stopped again, before a further epoch.

    Args:
        by: names of what may have stopped it.
    """
    log.info(
        events.MORE_EPOCHS,
        reason=f"{' or '.join(by) or 'a callback'} has stopped the run in epoch {epoch} again",
        fix="the result is that of the run as it was",
    )
