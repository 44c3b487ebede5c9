"""Notifications are sent by a thread for each address; nothing waits for it but the very end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.files.send_thread import SendThread, retrying
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.notifications.notification import Notification
from keepfit.job.notifications.webhook import DeliveryFailed, Webhook

log = get_logger()

END_SECONDS: Final = 1.0
"""Seconds for which the end of the process waits for notifications at most."""


class NotificationSender:
    """Sends each notification to all addresses, in the order of the events.

    Args:
        urls: the addresses.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._channels = [_Channel(Webhook(url)) for url in urls]
        self._count = 0

    def send(self, notification: Notification) -> None:
        """Have the notification sent; this returns at once."""
        self._count += 1
        for channel in self._channels:
            channel.send(notification, self._count)

    def finish(self, seconds: float) -> None:
        """Wait at most so long for what is still to be sent, and log what was not."""
        end = time.monotonic() + seconds
        for channel in self._channels:
            channel.finish(max(0.0, end - time.monotonic()), seconds)


class _Channel:
    """One address, with the thread that sends to it."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self._thread = SendThread("keepfit-notify")

    def send(self, notification: Notification, number: int) -> None:
        # With its number: of two jobs of one name, the thread would do the newer one only.
        name = f"{notification.event.value} ({number})"
        self._thread.add(name, partial(self._deliver, notification))

    def finish(self, seconds: float, limit: float) -> None:
        """Wait for `seconds`; `limit` are those that all channels have had together."""
        if left := self._thread.finish(seconds):
            names = [name.partition(" ")[0] for name in left]
            self._report(names, f"{self._webhook.shown} has not answered within {limit:.1f} s")

    def _deliver(self, notification: Notification) -> None:
        """Send one notification, on the thread."""
        try:
            tries = retrying(self._thread.abandoned, _is_transient)
            tries(self._webhook.post, notification.document())
        except DeliveryFailed as error:
            if not self._thread.abandoned.is_set():  # otherwise `finish` has logged it
                self._report([notification.event.value], str(error))

    def _report(self, names: Sequence[str], reason: str) -> None:
        log.warning(
            events.NOTIFY_FAILED,
            notifications=list(names),
            reason=reason,
            fix="the run is not affected; check --notify and the server",
        )


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, DeliveryFailed) and error.transient
