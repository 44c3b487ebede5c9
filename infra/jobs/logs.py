"""The output of a job in CloudWatch Logs, attempt by attempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from keepfit.infra.aws import code_of, explain_errors


class Stream:
    """The log stream of one attempt, read from where the last call stopped."""

    def __init__(self, logs: Any, group: str, name: str) -> None:
        self._logs = logs
        self._stream = {"logGroupName": group, "logStreamName": name}
        self._token: str | None = None

    def new_lines(self) -> Iterator[str]:
        """Yield the lines since the last call; none if the attempt has written nothing yet.

        Raises:
            AwsError: the stream can't be read.
        """
        while True:
            more = {"nextToken": self._token} if self._token else {}
            with explain_errors(f"log {self._stream['logStreamName']}"):
                try:
                    page = self._logs.get_log_events(**self._stream, startFromHead=True, **more)
                except ClientError as error:
                    if code_of(error) == "ResourceNotFoundException":
                        return
                    raise
            yield from (event["message"] for event in page["events"])
            if page["nextForwardToken"] == self._token:
                return
            self._token = page["nextForwardToken"]
