"""The local runner evaluates retry rules as AWS documents them."""

from __future__ import annotations

import pytest

from tests.containers.batch import HOST_LOST, Ending, container_options, retries

EXIT_ALL = {"onReason": "*", "action": "EXIT"}


@pytest.mark.parametrize(
    ("rules", "ending", "expected"),
    [
        ([], Ending(1), True),
        ([{"onExitCode": "75", "action": "EXIT"}], Ending(1), True),
        ([{"onExitCode": "75", "action": "retry"}, EXIT_ALL], Ending(75), True),
        ([{"onExitCode": "75", "action": "RETRY"}, EXIT_ALL], Ending(7), False),
        ([{"onExitCode": "7*", "action": "RETRY"}, EXIT_ALL], Ending(75), True),
        ([EXIT_ALL, {"onExitCode": "75", "action": "RETRY"}], Ending(75), False),
        (
            [{"onStatusReason": "Host EC2*", "action": "RETRY"}, EXIT_ALL],
            Ending(None, HOST_LOST),
            True,
        ),
        (
            [{"onExitCode": "1", "onReason": "Out*", "action": "RETRY"}, EXIT_ALL],
            Ending(1, reason="other"),
            False,
        ),
    ],
)
def test_rules_as_aws_documents_them(rules, ending, expected):
    """The first matching rule decides; all its conditions must hold; no match means a retry."""
    assert retries(rules, ending) is expected


def test_the_disks_of_a_container():
    """Volumes of Docker, folders of the host and tmpfs, each with its options."""
    properties = {
        "user": "1000:1000",
        "readonlyRootFilesystem": True,
        "linuxParameters": {
            "sharedMemorySize": 512,
            "tmpfs": [{"containerPath": "/fast", "size": 64, "mountOptions": ["rw", "exec"]}],
        },
        "volumes": [{"name": "own", "host": {}}, {"name": "data", "host": {"sourcePath": "/data"}}],
        "mountPoints": [
            {"sourceVolume": "own", "containerPath": "/tmp", "readOnly": False},
            {"sourceVolume": "data", "containerPath": "/in", "readOnly": True},
        ],
    }
    assert container_options(properties) == [
        "--cap-drop=ALL",
        "--user=1000:1000",
        "--read-only",
        "--shm-size=512m",
        "--tmpfs=/fast:rw,exec,size=64m",
        "--volume=/tmp",
        "--volume=/data:/in:ro",
    ]
