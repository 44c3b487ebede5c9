"""A POST to a webhook: limited in time and size, without redirects and without secrets in errors.

The path of a webhook's URL is often a secret itself (Slack, Discord, ntfy), so that only its scheme
and host are ever shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from keepfit.callbacks.masking import HIDDEN, mask_known, without_secrets, without_userinfo
from keepfit.job.notices.custom import request_of
from keepfit.job.notices.exchange import HttpClient
from keepfit.job.notices.source import SourceUnavailable

ANSWER_TIMEOUT: Final = 10.0
"""Seconds after which a try fails if the server has not answered."""


class DeliveryFailed(Exception):
    """The server has not accepted a notification.

    Attributes:
        transient: another try may succeed.
    """

    def __init__(self, reason: str, *, transient: bool) -> None:
        super().__init__(reason)
        self.transient = transient


class Webhook:
    """One address to which notifications are sent. Not thread-safe.

    Attributes:
        shown: the address as log lines name it.
    """

    def __init__(self, url: str, *, timeout: float = ANSWER_TIMEOUT) -> None:
        self._url = url
        self.shown = origin(url)
        self._client = HttpClient(url, timeout=timeout, name=self.shown, reads_body=False)

    def post(self, document: Mapping[str, Any]) -> None:
        """Send a document and wait for the answer.

        Raises:
            DeliveryFailed: the server did not accept it. A redirect is not followed: the document
                and the credentials are for this address only.
        """
        body = json.dumps(document).encode()
        try:
            status = self._client.send(lambda: request_of(self._url, body)).status
        except SourceUnavailable as error:
            raise DeliveryFailed(self._masked(str(error)), transient=True) from None
        if 300 <= status < 400:
            raise DeliveryFailed(
                f"{self.shown} answers {status}; redirects are not followed", transient=False
            )
        if not 200 <= status < 300:
            transient = status >= 500 or status in (408, 429)
            raise DeliveryFailed(f"{self.shown} answers {status}", transient=transient)

    def _masked(self, text: str) -> str:
        masked = mask_known(text, [self._url])
        path = without_secrets(self._url).removeprefix(self.shown)
        return masked.replace(path, f"/{HIDDEN}") if len(path) > 1 else masked


def origin(url: str) -> str:
    """Return the scheme and the host of a URL, with its port."""
    scheme, _, place = without_secrets(url).partition("://")
    return f"{scheme}://{place.partition('/')[0]}"


def may_be_secret(url: str) -> bool:
    """Return whether more than a scheme and a host is in the URL, which may be secret."""
    address, userinfo = without_userinfo(url)
    return bool(userinfo) or address.rstrip("/") != origin(url)
