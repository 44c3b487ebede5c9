"""Reports about a checkpoint from which a `fit` can't resume, or does not need to."""

from __future__ import annotations

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.errors import Refused

log = structlog.get_logger("keepfit")


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


def report_finished(checkpoint: Checkpoint, epochs: int) -> None:
    """Log that the fit had already finished, and warn if it now asks for other epochs."""
    position = checkpoint.manifest.position
    log.info(
        events.ALREADY_FINISHED,
        fit=position.fit + 1,
        epochs=position.epoch + 1,
        step=position.step,
        fix="to train again, use --fresh or another --run NAME",
    )
    if position.epoch >= epochs:
        log.warning(
            events.FEWER_EPOCHS,
            reason=f"fit asks for {epochs} epochs, the run is in epoch {position.epoch + 1}",
            fix="the model is as the checkpoint has it; ask for more epochs to continue training",
        )
    elif position.epoch + 1 < epochs and not checkpoint.state["stop_training"]:
        log.warning(
            events.MORE_EPOCHS,
            reason=f"fit asks for {epochs} epochs, the finished run has {position.epoch + 1}",
            fix="a finished run is not continued; use --fresh or another --run NAME",
        )
