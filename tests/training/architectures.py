"""Variables of architectures without Keras, for the tests of their matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.format.manifest import Manifest, StoredShard, StoredTensor
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.training.matching.specs import (
    VariableGroup,
    VariableList,
    VariableOrder,
    VariableSpec,
    checkpoint_names,
    find_owners,
)

KINDS: dict[str, tuple[tuple[str, VariableGroup], ...]] = {
    "dense": (("kernel", "model"), ("bias", "model")),
    "norm": (
        ("gamma", "model"),
        ("beta", "model"),
        ("moving_mean", "frozen"),
        ("moving_variance", "frozen"),
    ),
    "seed": (("seed_generator_state", "frozen"),),
    "frozen": (("kernel", "frozen"), ("bias", "frozen")),
}


@dataclass(frozen=True)
class Layer:
    """A layer with Keras' path to it, the numbers that Keras generates included."""

    kind: str
    path: str
    size: int = 4


@dataclass(frozen=True)
class Variable:
    """A variable as Keras lists it; `key` tells which one it is, whatever its path."""

    key: tuple[object, ...]
    path: str
    group: VariableGroup
    shape: tuple[int, ...]


def variables_of(
    layers: Sequence[Layer], ids: Sequence[int], order: Sequence[int] | None = None
) -> list[Variable]:
    """Return the variables of a model, its optimizer and its metrics.

    Args:
        ids: which layer of the architecture each layer is.
        order: the order in which the optimizer has been given the layers; that of the model if not
            given.
    """
    of_layers = [
        [
            Variable((i, own), f"{layer.path}/{own}", group, (layer.size,))
            for own, group in KINDS[layer.kind]
        ]
        for i, layer in zip(ids, layers, strict=True)
    ]
    found = [variable for one in of_layers for variable in one]
    found.append(Variable(("iteration",), "adam/iteration", "optimizer", ()))
    for i in range(len(layers)) if order is None else order:
        for variable in of_layers[i]:
            if variable.group == "model":
                flat = variable.path.replace("/", "_")
                found += [
                    Variable((*variable.key, s), f"adam/{flat}_{s}", "optimizer", variable.shape)
                    for s in ("momentum", "velocity")
                ]
    metrics = [("loss", "total"), ("loss", "count"), ("mae", "total")]
    return found + [Variable(m, "/".join(m), "metrics", ()) for m in metrics]


def listed(variables: Sequence[Variable]) -> VariableList:
    paths, groups = [v.path for v in variables], [v.group for v in variables]
    names = checkpoint_names(paths, groups)
    specs = (VariableSpec(n, "F32", v.shape) for n, v in zip(names, variables, strict=True))
    return VariableList(tuple(specs), find_owners(paths, groups))


def plain(layers: Sequence[Layer]) -> list[Variable]:
    return variables_of(layers, range(len(layers)))


def dense(*paths: str) -> list[Variable]:
    return plain([Layer("dense", path) for path in paths])


def manifest(variables: Sequence[Variable], state: dict[str, object]) -> Manifest:
    """Return a manifest, whose tensors are sorted by group."""
    specs = listed(variables).specs
    both = sorted(zip(specs, variables, strict=True), key=lambda one: one[1].group)
    names = [(s.name, s.dtype, s.shape) for s, _ in both]
    names.append(("state/architecture", "U8", (3,)))
    return Manifest(
        run="run",
        attempt=1,
        sequence=0,
        created="now",
        versions={},
        position=Position(),
        shards=(StoredShard(key="key", digest="0" * 64, size=1),),
        tensors=tuple(
            StoredTensor(name=name, dtype=dtype, shape=shape, shard=0, offset=0, size=0)
            for name, dtype, shape in names
        ),
        state=state,
    )


def recorded(variables: Sequence[Variable]) -> dict[str, object]:
    order = VariableOrder.of([v.group for v in variables], listed(variables).owners or ())
    return order.model_dump(mode="json")


STEMS = st.sampled_from(["dense", "block", "encoder", "decoder", "norm"])
CONTAINERS = st.lists(st.sampled_from(["sequential", "functional", "encoder"]), max_size=2)


@st.composite
def architectures(draw: st.DrawFn) -> list[Layer]:
    """Layers in containers; each path is numbered until it is unique, as Keras does."""
    layers: list[Layer] = []
    used: set[str] = set()
    for kind in draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=7)):
        path = "/".join([*draw(CONTAINERS), draw(STEMS)])
        unique = next(p for n in count() if (p := f"{path}_{n}" if n else path) not in used)
        used.add(unique)
        layers.append(Layer(kind, unique, draw(st.sampled_from([4, 4, 8]))))
    return layers
