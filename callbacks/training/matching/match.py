"""Match a checkpoint's variables with a model's: by name, else by structure.

Keras' paths differ for equal models: a Sequential model is part of the paths of its variables when
the script builds it, and is not when `load_model` does. So names are a hint. Where they disagree,
the variables are matched by their order, and dtypes, shapes and the variables' own names have to
agree at each position. Names that contradict the order are a reason to refuse: a wrong match would
be a wrong result.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from keepfit.callbacks.training.matching.specs import (
    NO_OWNER,
    UNKNOWN_OWNER,
    VariableList,
    VariableSpec,
)

_ORDINAL = re.compile(r"~\d+")

Indexed = list[tuple[int, VariableSpec]]
"""Some variables of a list, each with its index."""


def match_by_name(
    saved: Iterable[VariableSpec], current: Iterable[VariableSpec]
) -> Mapping[str, str] | None:
    """Return the names if both sides have the same variables in any order, else None."""
    before = {spec.name: spec for spec in saved}
    if before != {spec.name: spec for spec in current}:
        return None
    return {name: name for name in before}


def match_variables(saved: VariableList, current: VariableList) -> Mapping[str, str] | None:
    """Return the checkpoint's name for each name in the model; None if they don't match."""
    if (names := match_by_name(saved.specs, current.specs)) is not None:
        return names
    if saved.owners is None or current.owners is None:
        return None
    pairs: dict[int, int] = {}
    for section, depth in (("model", 1), ("metrics", 2)):
        found = _match_section(_of(saved, section), _of(current, section), depth)
        if found is None:
            return None
        pairs |= found
    slots = _match_optimizers(saved, current, pairs)
    if slots is None:
        return None
    pairs |= slots
    return {current.specs[j].name: saved.specs[i].name for i, j in pairs.items()}


def contradictions(saved: Sequence[str], current: Sequence[str]) -> set[str]:
    """Return the parts of paths that two lists of names have at different positions.

    Where a path has changed, a part that is missing there on one side and new elsewhere on the
    other may be a layer that has moved.
    """
    gone, new = set(), set()
    for old_name, new_name in zip(saved, current, strict=True):
        if old_name != new_name:
            before, now = _parents(old_name), _parents(new_name)
            gone |= before - now
            new |= now - before
    return gone & new


def _of(variables: VariableList, section: str) -> Indexed:
    return [(i, spec) for i, spec in enumerate(variables.specs) if spec.section == section]


def _match_section(saved: Indexed, current: Indexed, depth: int) -> dict[int, int] | None:
    """Match the variables of a section: by name if all names are the same, else by order.

    Args:
        depth: number of parts at the end of a name that have to agree.
    """
    before = {spec.name: i for i, spec in saved}
    now = {spec.name: j for j, spec in current}
    if before.keys() == now.keys():
        specs = match_by_name((spec for _, spec in saved), (spec for _, spec in current))
        return None if specs is None else {i: now[name] for name, i in before.items()}
    if len(saved) != len(current):
        return None
    both = list(zip(saved, current, strict=True))
    if any(_signature(a, depth) != _signature(b, depth) for (_, a), (_, b) in both):
        return None
    if contradictions([spec.name for _, spec in saved], [spec.name for _, spec in current]):
        return None
    return {i: j for (i, _), (j, _) in both}


def _signature(spec: VariableSpec, depth: int) -> tuple[object, ...]:
    return (spec.dtype, spec.shape, _without_ordinal(spec.name).split("/")[1:][-depth:])


def _without_ordinal(name: str) -> str:
    return _ORDINAL.sub("", name) if "~" in name else name


def _parents(name: str) -> set[str]:
    parts = name.split("/")[1:-1]
    return {*parts, "/".join(parts)}


def _match_optimizers(
    saved: VariableList, current: VariableList, pairs: Mapping[int, int]
) -> dict[int, int] | None:
    """Match the variables of optimizers: each slot follows its variable, the others their names.

    Args:
        pairs: the matched variables of the model.
    """
    before, now = _slots_by_owner(saved), _slots_by_owner(current)
    if UNKNOWN_OWNER in before or UNKNOWN_OWNER in now:
        return None
    found = _match_section(before.pop(NO_OWNER, []), now.pop(NO_OWNER, []), depth=99)
    if found is None or {pairs.get(owner) for owner in before} != now.keys():
        return None
    for owner, slots in before.items():
        others = now[pairs[owner]]
        if list(map(_slot_signature, slots)) != list(map(_slot_signature, others)):
            return None
        found |= {i: j for (i, _), (j, _) in zip(slots, others, strict=True)}
    return found


def _slots_by_owner(variables: VariableList) -> dict[int, Indexed]:
    slots: defaultdict[int, Indexed] = defaultdict(list)
    for i, spec in _of(variables, "optimizer"):
        slots[variables.owners[i] if variables.owners else UNKNOWN_OWNER].append((i, spec))
    return slots


def _slot_signature(indexed: tuple[int, VariableSpec]) -> tuple[object, ...]:
    """Return what has to agree: the optimizer, and the last word of the slot's name."""
    spec = indexed[1]
    optimizer, _, slot = _without_ordinal(spec.name).rpartition("/")
    return (spec.dtype, spec.shape, optimizer, slot.rpartition("_")[2])
