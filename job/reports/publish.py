"""Put the page of a finished run beside its other files for users."""

from __future__ import annotations

from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.keys import artifact_key
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Store
from keepfit.callbacks.storage.overwriting import overwrite

log = get_logger()

PAGE_NAME: Final = "keepfit-report.html"
"""Name of the page below `artifacts/`."""


def publish_page(store: Store, run: str) -> None:
    """Write the page of a run into its store. No error of it ends anything: it is one log line."""
    key = artifact_key(run, PAGE_NAME)
    try:
        from keepfit.job.reports.data import read_report
        from keepfit.job.reports.page.render import page_of

        overwrite(store, key, page_of(read_report(store, run)), None)
    except Exception as error:  # noqa: BLE001 # the training is finished and saved
        log.warning(
            events.PAGE_FAILED,
            run=run,
            reason=str(error) or repr(error),
            fix=f"make it later: keepfit report {run} --to FILE",
        )
