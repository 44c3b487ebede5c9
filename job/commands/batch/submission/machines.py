"""Whether the machines of a planned submission can start, and the display of the plan."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal
from rich.table import Table

from keepfit.callbacks.launch.arguments import storable
from keepfit.infra.jobs import queues, request
from keepfit.infra.jobs.lookup import job_name
from keepfit.infra.jobs.secret_arns import services_of
from keepfit.infra.preflight.check import Pool, PreflightRequest
from keepfit.job.commands import tables
from keepfit.job.commands.batch.submission.plan import SubmissionPlan
from keepfit.job.commands.deployment import preflight


def check_machines(plan: SubmissionPlan) -> None:
    """Exit if no machine could run the job; log what limits the machines."""
    found = preflight.run_checks(_preflight_request(plan), prices=False)
    preflight.refuse(found)
    preflight.log_problems(found)


def show_plan(plan: SubmissionPlan) -> None:
    """Print what would be submitted, and where it would run; exit if no machine could run it."""
    tables.show(_plan_table(plan))
    found = preflight.run_checks(_preflight_request(plan), prices=True)
    preflight.show(found)
    preflight.refuse(found)


def _preflight_request(plan: SubmissionPlan) -> PreflightRequest:
    return PreflightRequest(
        region=str(plan.definition["jobDefinitionArn"]).split(":")[3],
        pools=tuple(map(_pool, plan.environments)),
        job=queues.size_of(request.resources(plan.request.needs, plan.definition)),
        services=services_of(plan.request.secrets.values()),
        # Another queue may have a launch template that gives machines public addresses.
        network_certain=plan.options.queue is None,
    )


def _pool(environment: Mapping[str, Any]) -> Pool:
    resources = environment.get("computeResources", {})
    return Pool(
        resources.get("type", ""),
        tuple(resources.get("instanceTypes") or ()),
        tuple(resources.get("subnets") or ()),
        int(resources.get("maxvCpus") or 0),
    )


def _plan_table(plan: SubmissionPlan) -> Table:
    """Return the submission as a table, with the names of variables but not their values."""
    wanted = plan.request
    size = queues.size_of(request.resources(wanted.needs, plan.definition))
    container = plan.definition["containerProperties"]
    definition = str(plan.definition["jobDefinitionArn"]).rpartition("/")[2]
    rows = {
        "run": wanted.run,
        "job": job_name(wanted.run),
        "queue": plan.queue.rpartition("/")[2],
        "job definition": definition,
        "image": wanted.image or container["image"],
        "command": shlex.join(storable(wanted.command)),
        "variables": " ".join(sorted(wanted.environment)),
        "secrets": " ".join(sorted(wanted.secrets)),
        "resources": str(size),
        "store": plan.store,
        "code": f"{plan.code.files} files, {decimal(len(plan.code.content))}",
        "packages": _packages(plan),
    }
    table = tables.text_table("not submitted", "")
    for name, value in rows.items():
        tables.add_row(table, name, value)
    return table


def _packages(plan: SubmissionPlan) -> str:
    """Return what an attempt would install, as text."""
    if plan.wheels is None:
        return "those of the image"
    found = plan.wheels.document
    return f"{len(found.wheels)} wheels, {decimal(found.size)}, beside those of the image"
