"""A local runner for AWS Batch jobs: attempts in containers, and retry rules.

Emulators store the rules, but start one attempt only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.containers.engine import Container, container

HOST_LOST = "Host EC2 (instance i-0123456789abcdef0) terminated."
ORDINARY = "Essential container in task exited"
CONDITIONS = {"onExitCode": "code", "onStatusReason": "status", "onReason": "reason"}


@dataclass(frozen=True)
class Ending:
    """The end of an attempt, with the fields of AWS Batch.

    Attributes:
        code: the container's exit code; None if its host was lost.
        status: the attempt's statusReason.
        reason: the container's reason.
    """

    code: int | None
    status: str = ORDINARY
    reason: str = ""


def matches(pattern: str, text: str) -> bool:
    """Return True if the pattern matches: it is literal but for one `*` at the end."""
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def retries(rules: Sequence[Mapping[str, str]], ending: Ending) -> bool:
    """Return whether `evaluateOnExit` retries a failed attempt.

    All conditions of a rule must hold, the first rule that matches decides, and an attempt that no
    rule matches is retried.
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


def container_options(properties: Mapping[str, Any]) -> list[str]:
    """Return the options of the engine for `containerProperties`, as the agent on a machine has it.

    A volume without a path on the host is one of Docker's, new for each attempt.
    """
    limits = properties.get("linuxParameters", {})
    shared = limits.get("sharedMemorySize")
    tmpfs = [
        f"--tmpfs={mount['containerPath']}:{','.join(mount['mountOptions'])},size={mount['size']}m"
        for mount in limits.get("tmpfs", ())
    ]
    sources = {
        volume["name"]: (volume.get("host") or {}).get("sourcePath", "")
        for volume in properties.get("volumes", ())
    }
    volumes = [
        "--volume="
        + ":".join(
            part for part in (sources[mount["sourceVolume"]], mount["containerPath"]) if part
        )
        + (":ro" if mount.get("readOnly") else "")
        for mount in properties.get("mountPoints", ())
    ]
    flags = ["--read-only"] if properties["readonlyRootFilesystem"] else []
    flags += [f"--shm-size={shared}m"] if shared else []
    return ["--cap-drop=ALL", f"--user={properties['user']}", *flags, *tmpfs, *volumes]


class Attempt:
    """One container of a job."""

    def __init__(self, running: Container):
        self.container = running
        self.host_lost = False

    def lose_host(self) -> None:
        """Kill the container, like a power failure of its host."""
        self.host_lost = True
        self.container.kill()


@dataclass
class Job:
    """A job that was submitted.

    Attributes:
        definition: its job definition, from batch.describe_job_definitions.
        overrides: the container overrides of its submission.
        environment: variables of this machine: the endpoints of S3 and of the metadata service.
        id: its job id.
        endings: the ends of its attempts so far.
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
        properties = self.definition["containerProperties"]
        entries = [
            *properties.get("environment", ()),
            *self.overrides.get("environment", ()),
        ]
        environment = {entry["name"]: entry["value"] for entry in entries}
        return container(
            *self.overrides.get("command", properties["command"]),
            options=container_options(properties),
            image_name=properties["image"],
            **(environment | self.environment | batch),
        )
