"""The job file: `keepfit.toml`, or `[tool.keepfit]` in pyproject.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.runner_settings import OnNotice

FILE: Final = "keepfit.toml"
PROJECT: Final = "pyproject.toml"

_ONLY_FLAGS: Final = {
    "fresh": "it would start the run over at each submission",
    "resume": "it would accept any change of the script at each submission",
}


def _as_text(value: object) -> object:
    """Return a number as a command line would have it."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_as_text)]
"""A string, or a number in its place."""


class _Table(BaseModel):
    """A table of the file; keys are those of the command line's options."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=lambda n: n.replace("_", "-")
    )


class Resources(_Table):
    """The table `resources`."""

    vcpus: Annotated[int, Field(ge=1)] | None = None
    memory: str | None = None
    gpus: Annotated[int, Field(ge=1)] | None = None


class Notices(_Table):
    """The table `notices`: how the job reacts to notices, as with the options of `keepfit run`."""

    on_notice: Annotated[OnNotice, Field(strict=False)] | None = None
    grace: str | None = None
    watch: str | None = None
    leave_at_once: bool = False
    stalled_after: str | None = None

    def variables(self) -> dict[str, str]:
        """Return the variables that have the effect of the options."""
        given = self.model_dump(exclude_defaults=True, mode="json")
        return {
            f"KEEPFIT_{name.upper()}": "1" if value is True else str(value)
            for name, value in given.items()
        }


class JobFile(_Table):
    """A job as a file has it; None or empty: not given.

    Example:
        script = "train.py"
        args = ["--epochs", 20]
        save-every = "5min"
        resources = {vcpus = 8, memory = "16GiB"}
    """

    script: str | None = None
    module: str | None = None
    args: tuple[Text, ...] = Field(default=(), strict=False)
    run: str | None = None
    image: str | None = None
    resources: Resources = Resources()
    store: str | None = None
    queue: str | None = None
    deployment: str | None = None
    env: dict[str, Text] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)
    save_every: str | None = None
    deterministic: bool | None = None
    exact: bool | None = None
    only_explicit: bool | None = None
    hourly_price: Text | None = None
    on_demand_price: Text | None = None
    max_hours: Text | None = None
    max_cost: Text | None = None
    notify: tuple[str, ...] = Field(default=(), strict=False)
    notices: Notices = Notices()
    requirements: str | Literal[False] | None = None
    max_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    max_wait: str | None = None


def find_job_file(folder: Path) -> Path | None:
    """Return the job file of a folder, or None.

    Raises:
        ConfigurationError: there are two, or one can't be read.
    """
    own, project = folder / FILE, folder / PROJECT
    in_project = project.is_file() and _project_table(project) is not None
    if own.is_file() and in_project:
        raise ConfigurationError(
            f"{folder} has two job files, {FILE} and [tool.keepfit] in {PROJECT}: keep one of them"
        )
    if own.is_file():
        return own
    return project if in_project else None


def read_job_file(path: Path) -> JobFile:
    """Return the job that a file describes.

    Raises:
        ConfigurationError: the file can't be read, or has an unknown key or a wrong value. Values
            are not shown: they may be secret.
    """
    table: object = _read(path)
    where = str(path)
    if path.name == PROJECT:
        table, where = _project_table(path), f"{path}, [tool.keepfit]"
        if table is None:
            raise ConfigurationError(f"{path} has no table [tool.keepfit]")
    try:
        found = JobFile.model_validate(table)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {_explain(dict(error.errors()[0]))}") from None
    if found.script and found.module:
        raise ConfigurationError(f"{where}: script and module are both given; a job has one")
    return found


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the job file can't be read: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


def _project_table(path: Path) -> object:
    """Return the table [tool.keepfit], or None."""
    tools = _read(path).get("tool")
    return tools.get("keepfit") if isinstance(tools, Mapping) else None


def _explain(error: Mapping[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    if error["type"] != "extra_forbidden":
        return f"{key}: {error['msg']}"
    if key in _ONLY_FLAGS:
        return f"{key} can only be given on the command line, as --{key}: {_ONLY_FLAGS[key]}"
    tables: dict[str, type[_Table]] = {"resources": Resources, "notices": Notices}
    table = tables.get(location[0], JobFile) if len(location) > 1 else JobFile
    known = [field.alias or name for name, field in table.model_fields.items()]
    nearest = get_close_matches(location[-1], known, 1)
    fix = f"did you mean {nearest[0]}?" if nearest else f"the keys are {', '.join(known)}"
    return f"the key {key} is unknown; {fix}"
