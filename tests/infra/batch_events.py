"""Events as AWS Batch sends them to EventBridge, and whether a rule of a template matches them."""

from __future__ import annotations

import json

HOST_GONE = "Host EC2 (instance i-0a1) terminated."


def state_change(**detail):
    """Return the event of a job's state change, as AWS Batch sends it to EventBridge."""
    job = {"jobQueue": "queue", "status": "FAILED", "statusReason": "Essential container exited"}
    return {
        "version": "0",
        "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
        "source": "aws.batch",
        "detail-type": "Batch Job State Change",
        "account": "123456789012",
        "time": "2026-11-23T12:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:batch:us-east-1:123456789012:job/4c7599ae"],
        "detail": {**job, **detail},
    }


def queue_blocked(**detail):
    """Return the event of a queue that a job blocks."""
    blocked = {"status": "RUNNABLE", "statusReason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"}
    return state_change(**{**blocked, **detail}) | {"detail-type": "Batch Job Queue Blocked"}


def rule_matches(local_aws, rule, event):
    """Return whether the rule, whose queue is called "queue", matches; LocalStack evaluates it."""
    pattern = json.loads(json.dumps(rule["Properties"]["EventPattern"]))
    assert pattern["detail"]["jobQueue"] == [{"Ref": "Queue"}]
    pattern["detail"]["jobQueue"] = ["queue"]
    evaluated = local_aws("events").test_event_pattern(
        EventPattern=json.dumps(pattern), Event=json.dumps(event)
    )
    return evaluated["Result"]
