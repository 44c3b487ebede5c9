"""Describe for a person how a checkpoint's variables differ from a model's, layer by layer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import zip_longest

from keepfit.callbacks.training.matching.match import contradictions
from keepfit.callbacks.training.matching.specs import (
    NO_OWNER,
    UNKNOWN_OWNER,
    VariableList,
    VariableSpec,
)

MAX_LINES = 20
EXAMPLES = 5

_NAME = re.compile(r"(?:(?P<parent>.*)/)?(?P<own>[^/]*?)(?:~(?P<number>\d+))?(?P<replica>@\d+)?")


@dataclass
class _Layer:
    """The variables of a layer by their own names, and the number of their optimizer slots."""

    name: str
    variables: dict[str, VariableSpec] = field(default_factory=dict)
    slots: int = 0

    def signature(self) -> tuple[object, ...]:
        return tuple((own, v.dtype, v.shape) for own, v in sorted(self.variables.items()))


_Pair = tuple[_Layer | None, _Layer | None]
"""A layer of the checkpoint with the same layer of the model; None on the side that lacks it."""


def differences(saved: VariableList, current: VariableList) -> list[str]:
    """Return at least one line for lists that don't match; the most important ones come first."""
    if saved.owners is None:
        current = VariableList(current.specs)
    before, now = _layers(saved, "model"), _layers(current, "model")
    _count_slots(saved.specs, before)
    _count_slots(current.specs, now)
    of_layers = [line for pair in _differing(before, now) if (line := _line("layer", pair))]
    of_metrics = [
        line
        for pair in _by_name(_layers(saved, "metrics"), _layers(current, "metrics"))
        if (line := _line("metric", pair))
    ]
    lines = [*of_layers, *_optimizer_line(saved, current, of_layers), *of_metrics]
    lines = lines or [_line_about_names(saved, current)]
    if len(lines) > MAX_LINES:
        more = len(lines) - MAX_LINES + 1
        lines = [*lines[: MAX_LINES - 1], f"and {more} more differences"]
    return lines


def _parts(name: str) -> tuple[str, str, int]:
    """Return the path to a variable, its own name, and its number among equal names."""
    match = _NAME.fullmatch(name)
    assert match  # nosec B101 # narrows a type
    own = match["own"] + (match["replica"] or "")
    return match["parent"] or "", own, int(match["number"] or 1)


def _layers(variables: VariableList, section: str) -> dict[str, _Layer]:
    """Return the layers or metrics of a section by name; equal ones are numbered.

    Where the order is known, the variables of a layer follow one another; otherwise, they have the
    same number among equal names.
    """
    layers: dict[str, _Layer] = {}
    count: Counter[str] = Counter()
    last, known = None, variables.owners is not None
    for spec in variables.specs:
        if spec.section == section:
            parent, own, number = _parts(spec.name.partition("/")[2])
            if known:
                if parent != last or own in layers[_numbered(parent, count[parent])].variables:
                    count[parent] += 1
                last, number = parent, count[parent]
            name = _numbered(parent, number)
            layers.setdefault(name, _Layer(name)).variables[own] = spec
    return layers


def _numbered(name: str, number: int) -> str:
    return f"{name} #{number}" if number > 1 else name


def _count_slots(specs: Iterable[VariableSpec], layers: Mapping[str, _Layer]) -> None:
    """Count the slots of each layer, by their names; equal names are told apart by their order."""
    owners: defaultdict[str, list[_Layer]] = defaultdict(list)
    for layer in layers.values():
        for own in layer.variables:
            path = layer.name.partition(" #")[0]
            owners[f"{path}/{own}".lstrip("/").replace("/", "_")].append(layer)
    for spec in specs:
        if spec.section == "optimizer":
            _, slot, number = _parts(spec.name)
            end = len(slot)
            while (end := slot.rfind("_", 0, end)) > 0:
                if found := owners.get(slot[:end]):
                    found[min(number, len(found)) - 1].slots += 1
                    break


def _differing(saved: Mapping[str, _Layer], current: Mapping[str, _Layer]) -> list[_Pair]:
    """Return the differing layers: of both names and order, what leaves fewer differences.

    Changed layers come first, then those that are only in the checkpoint.
    """
    found = [
        [pair for pair in pairs if not _is_same(pair)]
        for pairs in (_by_name(saved, current), _by_order(saved, current))
    ]
    pairs = min(found, key=len)
    return sorted(pairs, key=lambda pair: (pair[0] is None) * 2 + (pair[1] is None))


def _is_same(pair: _Pair) -> bool:
    before, now = pair
    return before is not None and now is not None and before.signature() == now.signature()


def _by_name(saved: Mapping[str, _Layer], current: Mapping[str, _Layer]) -> list[_Pair]:
    pairs: list[_Pair] = [(layer, current.get(name)) for name, layer in saved.items()]
    return [*pairs, *((None, layer) for name, layer in current.items() if name not in saved)]


def _by_order(saved: Mapping[str, _Layer], current: Mapping[str, _Layer]) -> list[_Pair]:
    before, now = list(saved.values()), list(current.values())
    if [layer.variables.keys() for layer in before] == [layer.variables.keys() for layer in now]:
        return list(zip(before, now, strict=True))
    matcher = SequenceMatcher(
        a=[layer.signature() for layer in before], b=[layer.signature() for layer in now]
    )
    pairs: list[_Pair] = []
    for _, a, a_end, b, b_end in matcher.get_opcodes():
        pairs += _aligned(before[a:a_end], now[b:b_end])
    return pairs


def _aligned(saved: Sequence[_Layer], current: Sequence[_Layer]) -> Iterator[_Pair]:
    """Yield layers in the same place of both models, if they have variables of the same names."""
    for before, now in zip_longest(saved, current):
        if before and now and before.variables.keys() == now.variables.keys():
            yield before, now
        else:
            yield from ((before, None),) if before else ()
            yield from ((None, now),) if now else ()


def _line(kind: str, pair: _Pair) -> str | None:
    """Return the line about a differing layer or metric; None if both sides are the same."""
    before, now = pair
    if _is_same(pair):
        return None
    if before is None or now is None:
        layer = before or now
        assert layer  # nosec B101 # narrows a type
        where = "checkpoint" if before else "model"
        own = ", ".join(f"{name} {_shape(v)}" for name, v in layer.variables.items())
        return f"only in the {where}: {_title(kind, layer)}: {own}{_slots(layer.slots)}"
    title = _title(kind, before)
    if now.name != before.name:
        title += f" ({now.name} in the model)"
    names = dict.fromkeys([*before.variables, *now.variables])
    changes = (_change(n, before.variables.get(n), now.variables.get(n)) for n in names)
    first, *rest = [change for change in changes if change]
    short = [change.replace(" in the checkpoint, ", " / ") for change in rest]
    parts = [first, *(change.removesuffix(" in the model") for change in short)]
    return f"{title}: {'; '.join(parts)}{_slots(max(before.slots, now.slots))}"


def _title(kind: str, layer: _Layer) -> str:
    return f"{kind} {layer.name}" if layer.name else "the model itself"


def _slots(count: int) -> str:
    return f"; {count} optimizer slots of this layer" if count else ""


def _change(name: str, before: VariableSpec | None, now: VariableSpec | None) -> str | None:
    if before is None or now is None:
        one = before or now
        assert one  # nosec B101 # narrows a type
        return f"{name} {_shape(one)} only in the {'checkpoint' if before else 'model'}"
    if (before.dtype, before.shape) == (now.dtype, now.shape):
        return None
    a, b = _shape(before), _shape(now)
    if before.dtype != now.dtype:
        a, b = f"{before.dtype} {a}", f"{now.dtype} {b}"
    return f"{name} {a} in the checkpoint, {b} in the model"


def _shape(spec: VariableSpec) -> str:
    return f"({', '.join(map(str, spec.shape))})"


def _optimizer_line(
    saved: VariableList, current: VariableList, of_layers: Sequence[str]
) -> list[str]:
    """Return a line about the optimizers, unless their difference follows from the layers'."""
    before, now = _optimizers(saved), _optimizers(current)
    if before == now or (of_layers and before.keys() == now.keys()):
        return []
    text = f"{_of_optimizers(before)} in the checkpoint, {_of_optimizers(now)} in the model"
    return [f"optimizer: {text}"]


def _optimizers(variables: VariableList) -> Counter[tuple[str, str]]:
    """Count the variables by optimizer and own name, of which slots have the last word only."""
    owners = variables.owners or [UNKNOWN_OWNER] * len(variables.specs)
    count: Counter[tuple[str, str]] = Counter()
    for spec, owner in zip(variables.specs, owners, strict=True):
        if spec.section == "optimizer":
            parent, own, _ = _parts(spec.name)
            own = own if owner == NO_OWNER else own.rpartition("_")[2]
            count[parent.partition("/")[2], own] += 1
    return count


def _of_optimizers(counts: Counter[tuple[str, str]]) -> str:
    of_each: defaultdict[str, list[str]] = defaultdict(list)
    for (optimizer, own), count in counts.items():
        of_each[optimizer].append(f"{count} {own}" if count > 1 else own)
    texts = [f"{optimizer} ({', '.join(words)})" for optimizer, words in of_each.items()]
    return " and ".join(texts) or "none"


def _line_about_names(saved: VariableList, current: VariableList) -> str:
    """Return the line for variables that differ in nothing but their names, or in their order."""
    before, now = _layer_names(saved.specs), _layer_names(current.specs)
    names = [name for name in before if name not in now]
    others = [name for name in now if name not in before]
    text = f"{_some(names)} in the checkpoint, {_some(others)} in the model"
    if saved.owners is None:
        return f"keepfit 0.1 wrote the checkpoint, so names have to be the same: {text}"
    ordered = [[s.name for s in one.specs if s.section != "optimizer"] for one in (saved, current)]
    if len(ordered[0]) == len(ordered[1]) and (moved := contradictions(*ordered)):
        return (
            f"the names of layers contradict their order: {text}; {_some(sorted(moved))} can be "
            "where it was, or renamed"
        )
    return f"the names differ, and the order does not tell which are the same: {text}"


def _layer_names(specs: Iterable[VariableSpec]) -> dict[str, None]:
    return dict.fromkeys(_parts(s.name.partition("/")[2])[0] for s in specs)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return (", ".join(names[:EXAMPLES]) or "no other names") + more
