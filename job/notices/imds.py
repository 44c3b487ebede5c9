"""EC2's instance metadata, version 2: what the machine itself says of its end.

On AWS Batch on EC2, no signal reaches a container when a Spot instance is taken away: only
this tells. Paths, codes and limits: docs.aws.amazon.com/AWSEC2/latest/UserGuide, "Access instance
metadata" and "Spot Instance interruption notices".
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit

IPV4, IPV6 = "http://169.254.169.254", "http://[fd00:ec2::254]"
TIMEOUT = 2.0
"""Seconds for each connection and answer: the address is on the machine itself."""

TOKEN_LIFE = 21600
"""Seconds asked for, the longest that is given."""

EARLY = 60.0
"""Seconds before its end at which a token is renewed."""

HOP_LIMIT = (
    "the token request gets no answer, though the service is there: its hop limit is 1, which "
    "ends at the container's border; set HttpPutResponseHopLimit to 2 in the launch template"
)


class NoAnswer(Exception):
    """The service can't be used; the message says why, and what would help."""


@dataclass(frozen=True)
class _Token:
    value: str
    ends: float


class Imds:
    """A client that keeps its token. Not thread-safe: one thread polls."""

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint: SplitResult = urlsplit(endpoint)
        self._timeout = timeout
        self._clock = clock
        self._token: _Token | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Where every AWS tool looks for it; None if AWS_EC2_METADATA_DISABLED is true."""
        if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        mode = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower()
        default = IPV6 if mode == "ipv6" else IPV4
        return cls(environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or default)

    def get(self, path: str) -> str | None:
        """What stands at `path` below /latest/meta-data/; None if nothing does.

        Raises:
            NoAnswer: it can't be known.
        """
        for _ in range(2):
            headers = {"X-aws-ec2-metadata-token": self._valid_token()}
            status, text = self._ask("GET", f"/latest/meta-data/{path}", headers)
            if status != http.client.UNAUTHORIZED:
                break
            self._token = None  # it was given by another service, or before a restart of this one
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise NoAnswer(f"{self._endpoint.geturl()} answers {status} for {path}")
        return text

    def _valid_token(self) -> str:
        if self._token is None or self._clock() >= self._token.ends - EARLY:
            self._token = self._new_token()
        return self._token.value

    def _new_token(self) -> _Token:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFE)}
        began = self._clock()
        try:
            status, text = self._ask("PUT", "/latest/api/token", headers)
        except NoAnswer as error:
            raise NoAnswer(HOP_LIMIT if self._answers_without_token() else str(error)) from None
        if status != http.client.OK:
            raise NoAnswer(f"{self._endpoint.geturl()} answers {status} instead of a token")
        return _Token(text, began + TOKEN_LIFE)

    def _answers_without_token(self) -> bool:
        """A GET without a token is refused at once where only the way back for a PUT is cut off."""
        try:
            status, _ = self._ask("GET", "/latest/meta-data/", {})
        except NoAnswer:
            return False
        return status == http.client.UNAUTHORIZED

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        host, port = self._endpoint.hostname or "", self._endpoint.port
        # Without the proxies of the environment: the address means this machine.
        connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            cause = str(error) or type(error).__name__
            raise NoAnswer(f"{self._endpoint.geturl()} does not answer: {cause}") from error
        finally:
            connection.close()
