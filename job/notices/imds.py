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
from datetime import datetime
from typing import Self
from urllib.parse import SplitResult, urlsplit

from keepfit.job.notices import documents
from keepfit.job.notices.documents import MachineWarning
from keepfit.job.notices.source import SourceMessage, SourceUnavailable, parse_http_date

IPV4, IPV6 = "http://169.254.169.254", "http://[fd00:ec2::254]"
TIMEOUT = 2.0
"""Seconds for each connection and answer: the address is on the machine itself."""

TOKEN_LIFE = 21600
"""Seconds asked for, the longest that is given."""

TOKEN_RENEWAL_MARGIN = 60.0
"""Seconds before its end at which a token is renewed."""

HOP_LIMIT = (
    "the token request gets no answer, though the service is there: its hop limit is 1, which "
    "ends at the container's border; set HttpPutResponseHopLimit to 2 in the launch template"
)


@dataclass(frozen=True)
class _Answer:
    status: int
    text: str
    at: datetime | None


@dataclass(frozen=True)
class _Token:
    value: str
    ends: float


class InstanceMetadata:
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

    def describe(self) -> dict[str, object]:
        """What is watched, for the log."""
        return {"machine": self._endpoint.geturl(), "paths": list(documents.WATCHED_PATHS)}

    def ask(self) -> list[SourceMessage]:
        """All that it says now of the machine's end.

        Raises:
            NoAnswer: it can't be known.
        """
        found = ((path, self._look(path)) for path in documents.WATCHED_PATHS)
        return [SourceMessage(path, answer.text, answer.at) for path, answer in found if answer]

    def understand(self, said: SourceMessage, now: datetime) -> MachineWarning | None:
        """What it warns of; ValueError, KeyError or TypeError if it makes no sense."""
        return documents.parse_document(said.path, said.text, now)

    def get(self, path: str) -> str | None:
        """What stands at `path` below /latest/meta-data/; None if nothing does.

        Raises:
            NoAnswer: it can't be known.
        """
        answer = self._look(path)
        return answer.text if answer else None

    def _look(self, path: str) -> _Answer | None:
        for _ in range(2):
            headers = {"X-aws-ec2-metadata-token": self._valid_token()}
            answer = self._ask("GET", f"/latest/meta-data/{path}", headers)
            status = answer.status
            if status != http.client.UNAUTHORIZED:
                break
            self._token = None  # it was given by another service, or before a restart of this one
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise SourceUnavailable(f"{self._endpoint.geturl()} answers {status} for {path}")
        return answer

    def _valid_token(self) -> str:
        if self._token is None or self._clock() >= self._token.ends - TOKEN_RENEWAL_MARGIN:
            self._token = self._new_token()
        return self._token.value

    def _new_token(self) -> _Token:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFE)}
        began = self._clock()
        try:
            answer = self._ask("PUT", "/latest/api/token", headers)
        except SourceUnavailable as error:
            raise SourceUnavailable(
                HOP_LIMIT if self._answers_without_token() else str(error)
            ) from None
        if answer.status != http.client.OK:
            raise SourceUnavailable(
                f"{self._endpoint.geturl()} answers {answer.status} instead of a token"
            )
        return _Token(answer.text, began + TOKEN_LIFE)

    def _answers_without_token(self) -> bool:
        """A GET without a token is refused at once where only the way back for a PUT is cut off."""
        try:
            answer = self._ask("GET", "/latest/meta-data/", {})
        except SourceUnavailable:
            return False
        return answer.status == http.client.UNAUTHORIZED

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> _Answer:
        try:
            host, port = self._endpoint.hostname or "", self._endpoint.port
            # Without the proxies of the environment: the address means this machine.
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        except (ValueError, http.client.HTTPException) as error:
            raise SourceUnavailable(f"{self._endpoint.geturl()} is no address: {error}") from error
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            return _Answer(answer.status, text, parse_http_date(answer.getheader("Date")))
        except (OSError, http.client.HTTPException) as error:
            cause = str(error) or type(error).__name__
            raise SourceUnavailable(
                f"{self._endpoint.geturl()} does not answer: {cause}"
            ) from error
        finally:
            connection.close()
