"""A run that another attempt takes over in the middle of its first claim."""

from __future__ import annotations

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.errors import Fenced
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import RUN, take_over
from tests.engine.fits import AnyFit


class Overtaken(LocalStore):
    """A store in which another attempt claims the run right after this process has claimed it."""

    swaps = 0

    def swap(self, key, body, *, expected):
        version = super().swap(key, body, expected=expected)
        self.swaps += 1
        if self.swaps == 1:
            take_over(LocalStore(self._root))
        return version


def test_overtaken_while_a_fresh_start_is_recorded(tmp_path):
    """The attempt ends as fenced, with the line that says so."""
    settings = Settings.resolve(store=f"file://{tmp_path}", run=RUN, fresh=True)
    run = Run(settings, Overtaken(tmp_path), PreemptionState())
    with capture_logs() as logs, pytest.raises(Fenced):
        run.begin_fit(AnyFit())
    run.close()
    (entry,) = [log for log in logs if log["event"] == events.FENCED]
    assert "attempt 2 owns the run now" in entry["reason"]
