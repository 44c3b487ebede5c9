"""A client of EC2's instance metadata service, version 2: its documents about the machine's end.

On AWS Batch on EC2, no signal reaches a container when a Spot instance is taken away: this is
the only notice. Paths, codes and limits: docs.aws.amazon.com/AWSEC2/latest/UserGuide, "Access
instance metadata" and "Spot Instance interruption notices".
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from urllib.parse import urlsplit
from urllib.request import Request

from keepfit.callbacks.masking import mask_url
from keepfit.job.notices import documents
from keepfit.job.notices.documents import MachineWarning
from keepfit.job.notices.exchange import TIMEOUT, Answer, HttpClient
from keepfit.job.notices.source import UNREACHABLE, SourceMessage, SourceUnavailable

IPV4, IPV6 = "http://169.254.169.254", "http://[fd00:ec2::254]"
TOKEN_LIFETIME = 21600
"""Seconds that are requested: the longest lifetime that a token can have."""

TOKEN_RENEWAL_MARGIN = 60.0
"""Seconds before its expiry at which a token is renewed."""

_TOKEN = re.compile(r"[!-~]{1,1024}")
"""The form of a token that can be sent in a header."""

HOP_LIMIT = (
    "the token request gets no response, though the service is there: its hop limit is 1, which "
    "does not reach into a container with a network of its own; set HttpPutResponseHopLimit to 2 "
    "in the launch template"
)


@dataclass(frozen=True)
class _Token:
    value: str
    expires: float


class InstanceMetadata:
    """A client that caches its token. Not thread-safe: one thread polls."""

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = urlsplit(endpoint).netloc.rpartition("@")[2]
        self._address = mask_url(endpoint)
        self._shown = "IMDS" if endpoint in (IPV4, IPV6) else self._address
        # Without the environment's proxies: the address is that of this machine.
        self._client = HttpClient(endpoint, timeout=timeout, use_proxies=False, name=self._shown)
        self._clock = clock
        self._token: _Token | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Return a client for AWS' usual variables; None if AWS_EC2_METADATA_DISABLED is true."""
        if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        mode = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower()
        default = IPV6 if mode == "ipv6" else IPV4
        return cls(environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or default)

    def describe(self) -> dict[str, object]:
        """Return what is watched, for the log."""
        return {"machine": self._address}

    def fetch(self) -> Iterator[SourceMessage]:
        """Yield the present documents about the machine's end, each as soon as it is there.

        Raises:
            SourceUnavailable: the service can't be used.
        """
        for path in documents.WATCHED_PATHS:
            if found := self._get_document(path):
                yield SourceMessage(path, found.text, found.date)

    def parse(self, message: SourceMessage, now: datetime) -> MachineWarning | None:
        """Return the warning in a document, or None.

        Raises:
            ValueError, KeyError, TypeError: the document can't be parsed.
        """
        return documents.parse_document(message.path, message.text, now)

    def get(self, path: str) -> str | None:
        """Return the document at `path` below /latest/meta-data/; None if there is none.

        Raises:
            SourceUnavailable: the service can't be used.
        """
        response = self._get_document(path)
        return response.text if response else None

    def _get_document(self, path: str) -> Answer | None:
        for _ in range(2):
            headers = {"X-aws-ec2-metadata-token": self._valid_token()}
            response = self._request("GET", f"/latest/meta-data/{path}", headers)
            status = response.status
            if status != http.client.UNAUTHORIZED:
                break
            self._token = None  # it is from another service, or from before a restart of this one
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise SourceUnavailable(f"{self._shown} answers {status} for {path}")
        return response

    def _valid_token(self) -> str:
        if self._token is None or self._clock() >= self._token.expires - TOKEN_RENEWAL_MARGIN:
            self._token = self._new_token()
        return self._token.value

    def _new_token(self) -> _Token:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFETIME)}
        began = self._clock()
        try:
            response = self._request("PUT", "/latest/api/token", headers)
        except SourceUnavailable as error:
            if error.kind != UNREACHABLE or not self._refuses_without_token():
                raise
            raise SourceUnavailable(HOP_LIMIT) from None
        if response.status != http.client.OK:
            raise SourceUnavailable(f"{self._shown} answers {response.status} instead of a token")
        if not _TOKEN.fullmatch(response.text):
            raise SourceUnavailable(f"{self._shown} answers with something that is no token")
        return _Token(response.text, began + TOKEN_LIFETIME)

    def _refuses_without_token(self) -> bool:
        """Return whether a GET without a token is refused: then only a PUT's response is lost."""
        try:
            response = self._request("GET", "/latest/meta-data/", {})
        except SourceUnavailable:
            return False
        return response.status == http.client.UNAUTHORIZED

    def _request(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        url = f"http://{self._place}{path}"
        return self._client.send(lambda: Request(url, headers=dict(headers), method=method))
