"""The variables of a checkpoint and of a model, in the form in which they are compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from keepfit.callbacks.checkpoint.format.manifest import VARIABLES, Manifest

_GENERATED = re.compile(r"_\d+(?=/|_|$)")

NO_OWNER, UNKNOWN_OWNER = -1, -2
"""Owners of a variable that is no slot, and of a slot whose path fits several variables."""

VariableGroup = Literal["model", "frozen", "optimizer", "metrics"]


@dataclass(frozen=True)
class VariableSpec:
    """The properties in which a checkpoint's tensor and a model's variable must agree."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def section(self) -> str:
        """The first part of the name: "model", "optimizer" or "metrics"."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class VariableList:
    """All variables of a checkpoint or of a model.

    Attributes:
        specs: in the order in which the model lists them, if `owners` is known.
        owners: for each variable, the index of the variable whose slot it is in an optimizer, or
            NO_OWNER, or UNKNOWN_OWNER; None in a checkpoint of keepfit 0.1, which has not recorded
            the order.
    """

    specs: tuple[VariableSpec, ...]
    owners: tuple[int, ...] | None = None


class VariableOrder(BaseModel):
    """What a manifest records of its variables, because it lists their tensors by group.

    Attributes:
        groups: the groups of the variables in the model's order, each with the number of variables
            that follow one another.
        owners: the owners of the optimizers' variables, as in VariableList.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[tuple[VariableGroup, PositiveInt], ...]
    owners: tuple[Annotated[int, Field(ge=UNKNOWN_OWNER)], ...]

    @classmethod
    def of(cls, groups: Iterable[VariableGroup], owners: Sequence[int]) -> Self:
        """Return the record of variables of these groups and owners, in the model's order."""
        all_groups = list(groups)
        return cls(
            groups=tuple((group, len(list(same))) for group, same in groupby(all_groups)),
            owners=tuple(
                owner
                for group, owner in zip(all_groups, owners, strict=True)
                if group == "optimizer"
            ),
        )


class InvalidOrder(Exception):
    """A checkpoint's record of the variables' order does not fit its tensors."""


def saved_specs(manifest: Manifest) -> tuple[VariableSpec, ...]:
    """Return the variables of a checkpoint in the order of the manifest, by group."""
    return tuple(
        VariableSpec(t.name, t.dtype, t.shape)
        for t in manifest.tensors
        if not t.name.startswith(("state/", "data/"))
    )


def saved_variables(manifest: Manifest) -> VariableList:
    """Return the variables of a checkpoint.

    Raises:
        InvalidOrder: its record of their order is not valid.
    """
    specs = saved_specs(manifest)
    if (recorded := manifest.state.get(VARIABLES)) is None:
        return VariableList(specs)
    try:
        order = VariableOrder.model_validate(recorded)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidOrder(f"{where}: {first['msg']}") from None
    ordered = _in_order(specs, order)
    owners = _all_owners(ordered, order.owners)
    return VariableList(ordered, owners)


def _in_order(specs: Sequence[VariableSpec], order: VariableOrder) -> tuple[VariableSpec, ...]:
    """Return the specs of a manifest, which are sorted by group, in the model's order."""
    counts: Counter[str] = Counter()
    for group, count in order.groups:
        counts[group] += count
    of_group = _by_group(specs, counts["frozen"])
    if any(len(of_group[group]) != counts[group] for group in of_group):
        raise InvalidOrder("the record of the variables' order does not fit the tensors")
    queues = {group: iter(members) for group, members in of_group.items()}
    return tuple(spec for group, count in order.groups for spec in islice(queues[group], count))


def _by_group(specs: Sequence[VariableSpec], frozen: int) -> Mapping[str, list[VariableSpec]]:
    model = [spec for spec in specs if spec.section not in ("optimizer", "metrics")]
    return {
        "frozen": model[:frozen],
        "model": model[frozen:],
        "optimizer": [spec for spec in specs if spec.section == "optimizer"],
        "metrics": [spec for spec in specs if spec.section == "metrics"],
    }


def _all_owners(specs: Sequence[VariableSpec], recorded: Sequence[int]) -> tuple[int, ...]:
    of_optimizer = [spec.section == "optimizer" for spec in specs]
    if sum(of_optimizer) != len(recorded):
        raise InvalidOrder("the record of the slots' variables has another length")
    owners = iter(recorded)
    found = tuple(next(owners) if is_one else NO_OWNER for is_one in of_optimizer)
    if any(owner >= len(specs) or (owner >= 0 and of_optimizer[owner]) for owner in recorded):
        raise InvalidOrder("the record of the slots' variables names none of the model's")
    return found


def checkpoint_names(paths: Iterable[str], groups: Iterable[VariableGroup]) -> list[str]:
    """Return the names of variables, given Keras' paths in the model's order.

    A name is the path without the numbers that Keras generates (`dense_1`), because those differ
    between processes; equal names are distinguished by their order.
    """
    count: Counter[str] = Counter()
    names = []
    for path, group in zip(paths, groups, strict=True):
        name = f"{'model' if group == 'frozen' else group}/{_GENERATED.sub('', path)}"
        count[name] += 1
        names.append(name if count[name] == 1 else f"{name}~{count[name]}")
    return names


def find_owners(paths: Sequence[str], groups: Sequence[VariableGroup]) -> tuple[int, ...]:
    """Return the owners of variables, given Keras' paths with all generated numbers.

    The path of a slot is that of its variable with underscores, followed by the slot's own name:
    `adam/sequential_dense_1_kernel_momentum`.
    """
    known: dict[str, int] = {}
    for i, (path, group) in enumerate(zip(paths, groups, strict=True)):
        if group in ("model", "frozen"):
            flat = path.replace("/", "_")
            known[flat] = UNKNOWN_OWNER if flat in known else i
    return tuple(
        _owner(path, known) if group == "optimizer" else NO_OWNER
        for path, group in zip(paths, groups, strict=True)
    )


def _owner(path: str, known: Mapping[str, int]) -> int:
    slot = path.rpartition("/")[2]
    end = len(slot)
    while (end := slot.rfind("_", 0, end)) > 0:
        if (owner := known.get(slot[:end])) is not None:
            return owner
    return NO_OWNER
