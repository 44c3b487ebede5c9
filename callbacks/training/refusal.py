"""What is said of a checkpoint that a `fit` can't go on from, or need not."""

from __future__ import annotations

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.reader import Checkpoint
from keepfit.callbacks.errors import Refused

log = structlog.get_logger("keepfit")


def refusal(checkpoint: Checkpoint, reason: str) -> Refused:
    """Log why the checkpoint does not fit this script; the exception is the caller's to raise."""
    log.error(
        events.REFUSED,
        checkpoint=checkpoint.key,
        reason=reason,
        fix="undo the change, or begin a new run with --run NAME or --fresh",
    )
    return Refused()


def report_finished(checkpoint: Checkpoint, epochs: int) -> None:
    """Say that the fit was over before, and where it now asks for something else, that too."""
    position = checkpoint.manifest.position
    log.info(
        events.ALREADY_FINISHED,
        fit=position.fit + 1,
        epochs=position.epoch + 1,
        step=position.step,
        fix="to train anew, use --fresh or another --run NAME",
    )
    if position.epoch >= epochs:
        log.warning(
            events.FEWER_EPOCHS,
            reason=f"fit asks for {epochs} epochs, the run is in epoch {position.epoch + 1}",
            fix="the model is as it was left; ask for more epochs to train on",
        )
    elif position.epoch + 1 < epochs and not checkpoint.state["stop_training"]:
        log.warning(
            events.MORE_EPOCHS,
            reason=f"fit asks for {epochs} epochs, the finished run has {position.epoch + 1}",
            fix="a finished run is not continued; use --fresh or another --run NAME",
        )
