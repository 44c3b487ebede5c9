"""AWS Batch on this machine, as far as a job sees it: attempts in containers, and retry rules.

Emulators keep the rules, and start one attempt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.containers.engine import Container, container

HOST_LOST = "Host EC2 (instance i-0123456789abcdef0) terminated."
ORDINARY = "Essential container in task exited"
CONDITIONS = {"onExitCode": "code", "onStatusReason": "status", "onReason": "reason"}


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, in the words of AWS Batch.

    Attributes:
        code: the container's exit code; None if its host was lost.
        status: the attempt's statusReason.
        reason: the container's reason.
    """

    code: int | None
    status: str = ORDINARY
    reason: str = ""


def matches(pattern: str, text: str) -> bool:
    """Patterns are literal but for one `*`, at the end."""
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def retries(rules: Sequence[Mapping[str, str]], ending: Ending) -> bool:
    """Whether `evaluateOnExit` has a failed attempt made again.

    All conditions of a rule must hold, the first rule that matches decides, and what no rule
    matches is retried.
    https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html
    """
    for rule in rules:
        conditions = {CONDITIONS[name]: rule[name] for name in rule if name in CONDITIONS}
        texts = {name: getattr(ending, name) for name in conditions}
        if all(
            texts[name] is not None and matches(pattern, str(texts[name]))
            for name, pattern in conditions.items()
        ):
            return rule["action"].upper() == "RETRY"
    return True


class Attempt:
    """One container of a job."""

    def __init__(self, running: Container):
        self.container = running
        self.host_lost = False

    def lose_host(self) -> None:
        """As when the power fails."""
        self.host_lost = True
        self.container.kill()


@dataclass
class Job:
    """A job that was submitted.

    Attributes:
        definition: as batch.describe_job_definitions gives it.
        overrides: the container overrides of its submission.
        environment: what this machine adds: where its S3 and its metadata service are.
        endings: of the attempts so far.
    """

    definition: Mapping
    overrides: Mapping
    environment: Mapping[str, str]
    id: str
    endings: list[Ending] = field(default_factory=list)

    def attempts(self) -> Iterator[Attempt]:
        """Start attempts until one succeeds, or the rules or the limit end it."""
        strategy = self.definition["retryStrategy"]
        for number in range(1, strategy["attempts"] + 1):
            batch = {"AWS_BATCH_JOB_ID": self.id, "AWS_BATCH_JOB_ATTEMPT": str(number)}
            with self._container(batch) as running:
                attempt = Attempt(running)
                yield attempt
                ended = running.wait()
            ending = Ending(None, HOST_LOST) if attempt.host_lost else Ending(ended.code)
            self.endings.append(ending)
            if ended.code == 0 or not retries(strategy["evaluateOnExit"], ending):
                return

    def _container(self, batch: Mapping[str, str]):
        of = self.definition["containerProperties"]
        given = [*of.get("environment", ()), *self.overrides.get("environment", ())]
        environment = {entry["name"]: entry["value"] for entry in given}
        tmpfs = [
            f"--tmpfs={mount['containerPath']}:{','.join(mount['mountOptions'])},size={mount['size']}m"
            for mount in of["linuxParameters"]["tmpfs"]
        ]
        read_only = ["--read-only"] if of["readonlyRootFilesystem"] else []
        return container(
            *self.overrides.get("command", of["command"]),
            options=["--cap-drop=ALL", f"--user={of['user']}", *read_only, *tmpfs],
            of=of["image"],
            **(environment | self.environment | batch),
        )
