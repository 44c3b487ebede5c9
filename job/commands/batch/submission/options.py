"""The options of `keepfit submit`, from the command line and the job file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class SubmitOptions:
    """What is asked for, unchecked; None or empty: the default.

    Attributes:
        script: the path of a script, or with `module` the name of a module.
        folder: the folder from which a module is started.
        env: variables for the script by name. Values may be secret, and are never shown.
        secrets: ARNs of secrets by the names of their variables.
        notices: variables that set how the job reacts to notices.
        requirements: the file that names the packages of the job; None: that of the folder, if any.
        max_size: MiB of the largest folder that is uploaded.
        max_wait: the longest time for which the job waits for a machine.
        name: the deployment.
    """

    script: str
    args: tuple[str, ...] = ()
    module: bool = False
    folder: Path = field(default_factory=Path.cwd)
    run: str | None = None
    image: str | None = None
    vcpus: int | None = None
    memory: str | None = None
    gpus: int | None = None
    save_every: str | None = None
    deterministic: bool = False
    exact: bool = False
    only_explicit: bool = False
    hourly_price: str | None = None
    on_demand_price: str | None = None
    max_hours: str | None = None
    max_cost: str | None = None
    notify: tuple[str, ...] = ()
    resume: bool = False
    fresh: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    notices: Mapping[str, str] = field(default_factory=dict)
    requirements: str | None = None
    no_requirements: bool = False
    max_size: int = 100
    max_wait: str | None = None
    queue: str | None = None
    store: str | None = None
    name: str = "keepfit"
