"""Generated changes of a document: any value at any place of its JSON."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Json = Any

NASTY_TEXTS = (
    "",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "run",
    "other",
    "run/HEAD.json",
    "run/checkpoints/0000000001-0001-0000.json",
    f"run/shards/{'0' * 64}-0001.safetensors",
    f"other/shards/{'0' * 64}-0001.safetensors",
    "run/logs/x/000000000000-0001-0000",
    "run/logs/../../x/000000000000-0001-0000",
    "ck/../../x.weights.h5",
    "log.csv\0",
    "\x1b[31m[/red]",
    "[link=file:///etc/passwd]",
    "on_epoch_end",
    "__class__",
    "keepfit.begin",
    "$array",
    "NaN",
    "x" * 5000,
    "²",
    "٣",
)
NASTY_NUMBERS = (
    -1,
    0,
    1,
    2,
    10**3,
    10**9,
    10**9 + 1,
    10**15,
    2**31,
    2**32,
    2**44,
    2**53,
    2**63,
    2**64,
    10**30,
    10**300,
    -(2**63),
    0.5,
    -0.0,
    1e300,
    float("inf"),
    float("nan"),
)
NASTY_FORMS: tuple[Json, ...] = (
    {"$array": "model/kernel"},
    {"$array": []},
    {"$ints": "state/callbacks/6/losses"},
    {"$floats": "optimizer/iteration"},
    {"$bytes": "state/architecture"},
    {"$tuple": 5},
    {"$set": [[1]]},
    {"$dict": [[[1], 2]]},
    {"$dict": [1]},
    {"$zip": [[1], []]},
    {"$Counter": {"a": None}},
    {"$OrderedDict": []},
    {"$float": "nought"},
    {"class": "CSVLogger", "state": {}},
    {"class_name": "function", "module": "os", "config": "system"},
)

TEXTS = st.sampled_from(NASTY_TEXTS) | st.text(max_size=8)
LEAVES = st.none() | st.booleans() | st.sampled_from(NASTY_NUMBERS) | TEXTS
VALUES = (
    LEAVES
    | st.sampled_from(NASTY_FORMS)
    | st.lists(LEAVES, max_size=3)
    | st.dictionaries(TEXTS, LEAVES, max_size=3)
)


@dataclass(frozen=True)
class Mutation:
    """A change of one place in a document.

    Attributes:
        place: decides which place, by a walk from the top.
        action: "set" a value, "remove" it, "add" one beside it, or "copy" one from another place.
        other: decides the other place of a copy.
        value: the new value.
    """

    place: int
    action: str
    other: int
    value: Json

    def apply(self, document: Json) -> None:
        """Change the document in place."""
        container, key = _find(document, self.place)
        value = copy.deepcopy(self.value)
        match self.action:
            case "set":
                container[key] = value
            case "remove":
                del container[key]
            case "copy":
                source, name = _find(document, self.other)
                container[key] = copy.deepcopy(source[name])
            case "add" if isinstance(container, list):
                container.insert(key, value)
            case "add":
                container[value if isinstance(value, str) else "new"] = value


MUTATIONS = st.lists(
    st.builds(
        Mutation,
        st.integers(0, 2**48),
        st.sampled_from(("set", "set", "set", "remove", "add", "copy")),
        st.integers(0, 2**48),
        VALUES,
    ),
    min_size=1,
    max_size=3,
)


def _find(document: Json, place: int) -> tuple[Json, Any]:
    """Return a container in the document and a key of it, by a walk that `place` decides."""
    container, (key, place) = document, _choose(document, place)
    while (inner := container[key]) and isinstance(inner, dict | list):
        place, stops = divmod(place, 5)
        if not stops:
            break
        container, (key, place) = inner, _choose(inner, place)
    return container, key


def _choose(container: Json, place: int) -> tuple[Any, int]:
    keys = list(container) if isinstance(container, dict) else range(len(container))
    rest, index = divmod(place, len(keys))
    return keys[index], rest
