"""Merge the command line and the job file: the command line wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keepfit.callbacks.errors import ConfigurationError
from keepfit.job.commands.batch.submission.job_file import JobFile
from keepfit.job.commands.batch.submission.options import SubmitOptions


def describes_another(found: JobFile, folder: Path, script: str | None, *, module: bool) -> bool:
    """Return whether the file describes another program than the command line names.

    Args:
        folder: the folder of the file, to which its script is relative.
        script: the script or module of the command line; None: the file's is meant.
    """
    if script is None or not (found.script or found.module):
        return False
    if module or found.module:
        return not module or found.module != script
    return (folder / str(found.script)).resolve() != Path(script).resolve()


def merge(given: Mapping[str, Any], found: JobFile, folder: Path) -> SubmitOptions:
    """Return the options in effect.

    A value of the command line replaces the file's; variables and secrets are replaced one by one.
    ARGS apply to the SCRIPT before them, so a command line with a script has none of the file's.

    Args:
        given: the options of the command line by their names in SubmitOptions.
        folder: the folder of the file; the command line is relative to the current one.

    Raises:
        ConfigurationError: neither names a program.
    """
    values = _values(found, folder) | {
        k: v for k, v in given.items() if v not in (None, (), False, {})
    }
    for name in ("env", "secrets"):
        values[name] = getattr(found, name) | given.get(name, {})
    if given.get("requirements") or given.get("no_requirements"):  # either replaces the file's key
        values |= {name: given.get(name) for name in ("requirements", "no_requirements")}
        values["no_requirements"] = bool(values["no_requirements"])
    if given.get("script"):
        values |= {"args": given.get("args", ()), "module": given.get("module", False)}
    elif found.script or found.module:
        program = str(found.module or folder / str(found.script))
        values |= {"script": program, "module": bool(found.module), "folder": folder}
    else:
        raise ConfigurationError(
            "no script is named: give SCRIPT, or name it in a job file (keepfit.toml with "
            'script = "train.py")'
        )
    return SubmitOptions(**values)


def _values(found: JobFile, folder: Path) -> dict[str, Any]:
    """Return the values that the file gives, by their names in SubmitOptions."""
    values = {
        **{name: getattr(found, name) for name in ("args", "run", "image", "store", "queue")},
        **found.resources.model_dump(),
        "name": found.deployment,
        "save_every": found.save_every,
        "deterministic": found.deterministic,
        "exact": found.exact,
        "only_explicit": found.only_explicit,
        "hourly_price": found.hourly_price,
        "on_demand_price": found.on_demand_price,
        "max_hours": found.max_hours,
        "max_cost": found.max_cost,
        "notify": found.notify,
        "notices": found.notices.variables(),
        "requirements": str(folder / found.requirements) if found.requirements else None,
        "no_requirements": found.requirements is False,
        "max_size": found.max_size,
        "max_wait": found.max_wait,
    }
    return {name: value for name, value in values.items() if value is not None}
