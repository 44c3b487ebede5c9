"""What the process that runs the script has to do: one JSON document for each attempt."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keepfit.callbacks.engine.save_policy import (
    SaveEveryBatches,
    SaveEveryEpochs,
    parse_save_policy,
)
from keepfit.callbacks.errors import ConfigurationError
from keepfit.job.drill.moments import Moment, Place


@dataclass(frozen=True)
class Program:
    """What is drilled.

    Attributes:
        target: the script, relative to the folder; or the name of a module.
        is_module: as with `python -m`.
        deterministic: as the option of `keepfit run`.
        options: more options of `keepfit run`.
    """

    target: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    deterministic: bool = True
    options: tuple[str, ...] = ()

    def as_command(self) -> list[str]:
        """Return the arguments of the `keepfit` command that runs it."""
        target = ["-m", self.target] if self.is_module else [self.target]
        deterministic = ["--deterministic"] if self.deterministic else []
        return ["run", *deterministic, *self.options, *target, *self.arguments]


@dataclass(frozen=True)
class Limit:
    """The end of a comparison, counted over all fits; one of the two is None.

    Attributes:
        batches: so many calls of the train function's batches.
        epochs: so many epochs.
    """

    batches: int | None = None
    epochs: int | None = None


def parse_limit(text: str) -> Limit:
    """Return the limit that `text` describes: "200 batches", "3 epochs".

    Raises:
        ConfigurationError: `text` does not describe one.
    """
    try:
        match parse_save_policy(text):
            case SaveEveryBatches(batches):
                return Limit(batches=batches)
            case SaveEveryEpochs(epochs):
                return Limit(epochs=epochs)
    except ConfigurationError:
        pass
    raise ConfigurationError(f'--until takes "200 batches" or "3 epochs". Received: {text!r}')


@dataclass(frozen=True)
class Instructions:
    """One attempt.

    Attributes:
        kept: under `keepfit run`; otherwise in plain Python, where Resumable does nothing.
        trace: the file to which the course of the training is written.
        store: the URI of the store, which no argument of the script replaces.
        work: the working directory of the script.
        home: the folder that the script may write to.
        moment: when to interrupt it.
        limit: where to find the place at which the run ends.
        until: that place, once it is known.
        describe_starts: record the variables and generators with which each fit begins.
    """

    program: Program
    kept: bool
    trace: str
    store: str
    work: str
    home: str
    moment: Moment | None = None
    limit: Limit | None = None
    until: Place | None = None
    describe_starts: bool = False

    def write(self, path: Path) -> None:
        """Write the instructions for the process."""
        fields: dict[str, Any] = {
            **asdict(self),
            "moment": self.moment and self.moment.as_json(),
            "until": self.until and self.until.as_list(),
        }
        path.write_text(json.dumps(fields), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Instructions:
        """Return the instructions that `write` has written."""
        fields = json.loads(path.read_text("utf-8"))
        program = fields["program"]
        for name in ("arguments", "options"):
            program[name] = tuple(program[name])
        fields["program"] = Program(**program)
        fields["moment"] = fields["moment"] and Moment.of_json(fields["moment"])
        fields["limit"] = fields["limit"] and Limit(**fields["limit"])
        fields["until"] = fields["until"] and Place.of_list(fields["until"])
        return cls(**fields)
