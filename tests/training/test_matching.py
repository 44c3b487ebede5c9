"""The matching of variables, on architectures without Keras: never wrong, and never a surprise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from time import thread_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from keepfit.callbacks.checkpoint.format.manifest import (
    Manifest,
    StoredShard,
    StoredTensor,
)
from keepfit.callbacks.checkpoint.snapshot import Position
from keepfit.callbacks.training.matching.differences import MAX_LINES, differences
from keepfit.callbacks.training.matching.match import match_by_name, match_variables
from keepfit.callbacks.training.matching.specs import (
    UNKNOWN_OWNER,
    VariableGroup,
    VariableList,
    VariableOrder,
    VariableSpec,
    checkpoint_names,
    find_owners,
    saved_variables,
)

MORE = settings(max_examples=150)

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


def matched(
    before: Sequence[Variable], now: Sequence[Variable]
) -> dict[tuple[object, ...], tuple[object, ...]] | None:
    """Match the variables; return the key of the saved one for each key of the model."""
    saved, current = listed(before), listed(now)
    names = match_variables(saved, current)
    if names is None:
        lines = differences(saved, current)
        assert 0 < len(lines) <= MAX_LINES
        return None
    old = {spec.name: i for i, spec in enumerate(saved.specs)}
    new = {spec.name: i for i, spec in enumerate(current.specs)}
    assert sorted(names.values()) == sorted(old)
    assert names.keys() == new.keys()
    for name, saved_name in names.items():
        a, b = saved.specs[old[saved_name]], current.specs[new[name]]
        assert (a.dtype, a.shape, a.section) == (b.dtype, b.shape, b.section)
    return {now[new[n]].key: before[old[s]].key for n, s in names.items()}


def is_identity(keys: dict[tuple[object, ...], tuple[object, ...]] | None) -> bool:
    return keys is not None and all(key == other for key, other in keys.items())


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


def plain(layers: Sequence[Layer]) -> list[Variable]:
    return variables_of(layers, range(len(layers)))


@MORE
@given(architectures(), st.data())
def test_pure_renaming(layers, data):
    """With all paths changed, each variable is itself, and slots follow theirs in any order."""
    shape = data.draw(st.sampled_from(["{}", "{}_{}", "model_3/{}", "outer/inner_{}/{}"]))
    renamed = [
        replace(layer, path=shape.format(*[f"new{chr(97 + i)}"] * shape.count("{}")))
        for i, layer in enumerate(layers)
    ]
    order = data.draw(st.permutations(range(len(layers))))
    ids = range(len(layers))
    assert is_identity(matched(plain(layers), variables_of(renamed, ids, order)))
    assert is_identity(matched(variables_of(renamed, ids, order), plain(layers)))


@MORE
@given(architectures(), st.integers(0, 3))
def test_other_generated_numbers(layers, more):
    """A model that is built again in the same process has the same names in a checkpoint."""
    numbered = [
        replace(layer, path=f"{layer.path.rstrip('_0123456789')}_{i + more}")
        for i, layer in enumerate(layers)
    ]
    saved, current = listed(plain(layers)), listed(plain(numbered))
    assert match_by_name(saved.specs, current.specs)
    assert is_identity(matched(plain(layers), plain(numbered)))


@MORE
@given(architectures(), architectures())
def test_any_two_architectures(layers, others):
    """Never another dtype or shape; those with other layers are refused."""
    keys = matched(plain(layers), plain(others))
    if sorted((one.kind, one.size) for one in layers) != sorted((o.kind, o.size) for o in others):
        assert keys is None


@MORE
@given(architectures(), st.data())
def test_a_real_difference_is_refused(layers, data):
    """A changed shape, a missing, an added or another layer."""
    i = data.draw(st.integers(0, len(layers) - 1))
    other = data.draw(st.sampled_from([kind for kind in KINDS if kind != layers[i].kind]))
    changed = data.draw(
        st.sampled_from(
            [
                [*layers[:i], replace(layers[i], size=5), *layers[i + 1 :]],
                [*layers[:i], *layers[i + 1 :]],
                [*layers[:i], Layer("dense", "added"), *layers[i:]],
            ]
        )
    )
    renamed = [replace(one, path=f"new_{one.path}") for one in changed]
    assert matched(plain(layers), plain(changed)) is None
    assert matched(plain(layers), plain(renamed)) is None
    exchanged = [*layers[:i], replace(layers[i], kind=other), *layers[i + 1 :]]
    if {layers[i].kind, other} != {"dense", "frozen"}:
        assert matched(plain(layers), plain(exchanged)) is None


@MORE
@given(architectures(), st.data())
def test_moved_layers_whose_names_were_kept(layers, data):
    """A layer with its name is never mapped to another one, however the others are called."""
    named = [replace(layer, path=f"layer{chr(97 + i)}") for i, layer in enumerate(layers)]
    ids = data.draw(st.permutations(range(len(named))))
    kept = data.draw(st.sets(st.sampled_from(range(len(named)))))
    moved = [named[i] if i in kept else replace(named[i], path=f"new{chr(97 + i)}") for i in ids]
    keys = matched(plain(named), variables_of(moved, ids))
    if len(kept) == len(named):
        assert is_identity(keys)
    elif keys is not None:
        assert all(key == other for key, other in keys.items() if key[0] in kept)


def dense(*paths: str) -> list[Variable]:
    return plain([Layer("dense", path) for path in paths])


def test_exchanged_names_decide():
    """Two equal layers with each other's names are matched by name, as all others are."""
    now = variables_of([Layer("dense", "b"), Layer("dense", "a")], [1, 0])
    assert is_identity(matched(dense("a", "b"), now))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("first", "second"), ("second", "third")),
        (("enc/dense", "dec/dense", "out"), ("dec/dense", "enc/dense", "top")),
        (("enc", "dec"), ("model/dec", "model/enc")),
        (("x/y", "y/x", "out"), ("y/x", "x/y", "top")),
    ],
)
def test_names_that_contradict_the_order(before, now):
    """Some names say that layers have moved: neither names nor order decide alone."""
    assert matched(dense(*before), dense(*now)) is None
    (line,) = differences(listed(dense(*before)), listed(dense(*now)))
    assert line.startswith("the names of layers contradict their order: ")


def test_one_of_two_layers_gets_a_name():
    """The number that Keras has generated for the other one is no contradiction."""
    assert is_identity(matched(dense("dense", "dense_1"), dense("first", "dense")))


def test_a_sequential_model_inside():
    """What `load_model` does: the paths of the inner layers are shorter."""
    before = dense("sequential_1/dense_2", "sequential_1/dense_3", "dense_5", "dense_4")
    assert is_identity(matched(before, dense("dense_2", "dense_3", "dense_5", "dense_4")))


def test_slots_of_two_optimizers_follow_their_variables():
    """Equal submodels with equal names, whose optimizers are listed in the other order."""

    def gan(one: str, other: str) -> list[Variable]:
        model = [
            Variable((part, own), f"{path}/dense/{own}", "model", (4,))
            for part, path in (("generator", one), ("discriminator", other))
            for own in ("kernel", "bias")
        ]
        slots = [
            Variable((*v.key, "m"), f"adam/{v.path.replace('/', '_')}_m", "optimizer", (4,))
            for v in model
        ]
        return [*model, *slots[2:], *slots[:2]]

    assert is_identity(matched(gan("sequential", "sequential_1"), gan("gen", "disc")))


def test_a_slot_with_several_possible_variables():
    """Equal paths don't tell whose slot it is: refused unless all names are the same."""
    model = dense("block/dense", "block/dense")
    assert UNKNOWN_OWNER in (listed(model).owners or ())
    assert matched(model, model) is not None
    assert matched(model, dense("other/dense", "other/dense")) is None


def test_another_optimizer_or_metric_is_refused():
    """AdamW has the variables of Adam, and any mean those of another: their names have to agree."""
    before = dense("a")
    weighted = [replace(v, path=v.path.replace("adam/", "adamw/")) for v in dense("b")]
    assert matched(before, weighted) is None
    other = [replace(v, path=v.path.replace("mae/", "mse/")) for v in dense("b")]
    assert matched(before, other) is None
    (line,) = differences(listed(before), listed([*dense("a")[:-1], other[-1]]))[1:]
    assert line == "only in the model: metric mse: total ()"


def test_replicas():
    """Values of replicas keep their number."""
    specs = [VariableSpec(f"model/a/mean@{i}", "F32", (4,)) for i in range(2)]
    others = [VariableSpec(f"model/b/mean@{i}", "F32", (4,)) for i in range(2)]
    saved, current = VariableList(tuple(specs), (-1, -1)), VariableList(tuple(others), (-1, -1))
    assert match_variables(saved, current) == {
        "model/b/mean@0": "model/a/mean@0",
        "model/b/mean@1": "model/a/mean@1",
    }
    swapped = VariableList(current.specs[::-1], (-1, -1))
    assert match_variables(saved, swapped) is None


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


@MORE
@given(architectures())
def test_a_manifest_keeps_the_order(layers):
    """It lists tensors by group; what it records restores the model's order."""
    variables = plain(layers)
    stored = manifest(variables, {"variables": recorded(variables)})
    assert saved_variables(stored) == listed(variables)
    assert "variables" not in stored.without_variables().state


def test_a_checkpoint_of_keepfit_0_1():
    """Its order is not known, so its names have to be the same, and the refusal says so."""
    saved = saved_variables(manifest(dense("a"), {}))
    assert match_variables(saved, listed(dense("a"))) is not None
    assert match_variables(saved, listed(dense("b"))) is None
    (line,) = differences(saved, listed(dense("b")))
    assert line == (
        "keepfit 0.1 wrote the checkpoint, so names have to be the same: a in the checkpoint, "
        "b in the model"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"groups": [["model", 1]]},
        {"groups": [["model", 10**9]]},
        {"groups": [["model", 0]]},
        {"groups": [["state", 1]]},
        {"owners": []},
        {"owners": [99] * 5},
        {"owners": [2] * 5},
        {"owners": [-3] * 5},
        {"more": 1},
    ],
)
def test_a_forged_record(change):
    """A record that does not fit the manifest's tensors is an error."""
    variables = dense("a")
    forged = {**recorded(variables), **change}
    with pytest.raises((ValueError, ValidationError)):
        saved_variables(manifest(variables, {"variables": forged}))


def lines(before: Sequence[Layer], now: Sequence[Layer]) -> list[str]:
    return differences(listed(plain(before)), listed(plain(now)))


A, B = Layer("dense", "sequential/dense"), Layer("norm", "sequential/norm")


def test_a_changed_layer():
    """One line for a layer, with its optimizer slots."""
    assert lines([A, B], [replace(A, size=8), B]) == [
        "layer sequential/dense: kernel (4) in the checkpoint, (8) in the model; bias (4) / (8); "
        "4 optimizer slots of this layer"
    ]


def test_added_and_missing_layers():
    """Changed layers come first, then what only the checkpoint has, then what only the model."""
    found = lines([A, B], [Layer("seed", "seed"), replace(A, size=8)])
    assert [line.partition(" (")[0].partition(": kernel")[0] for line in found] == [
        "layer sequential/dense",
        "only in the checkpoint: layer sequential/norm: gamma",
        "only in the model: layer seed: seed_generator_state",
    ]


def test_a_changed_layer_among_renamed_ones():
    """Where names disagree, layers are aligned by their order."""
    before = [A, Layer("dense", "sequential/dense_1"), Layer("dense", "sequential/dense_2")]
    now = [replace(layer, path=layer.path.partition("/")[2]) for layer in before]
    now[1] = replace(now[1], size=8)
    (line,) = lines(before, now)
    assert line.startswith("layer sequential/dense #2 (dense #2 in the model): kernel (4) in the")


def test_other_slots():
    """A difference of the optimizers alone is one line."""
    without = [v for v in plain([A]) if "velocity" not in v.path]
    assert differences(listed(plain([A])), listed(without)) == [
        "optimizer: adam (iteration, 2 momentum, 2 velocity) in the checkpoint, "
        "adam (iteration, 2 momentum) in the model"
    ]


def test_another_dtype():
    """Both dtypes are named where they differ."""
    saved, current = listed(plain([A])), listed(plain([A]))
    half = tuple(replace(s, dtype="F16") if s.shape else s for s in current.specs)
    (line,) = differences(saved, replace(current, specs=half))
    assert "kernel F32 (4) in the checkpoint, F16 (4) in the model; bias F32 (4) / F16 (4)" in line


def test_many_differences():
    """The number of lines is limited, and the last one counts the rest."""
    before = [Layer("dense", f"a{chr(97 + i)}") for i in range(25)]
    found = lines(before, [replace(one, size=8) for one in before])
    assert len(found) == MAX_LINES
    assert found[-1] == "and 6 more differences"


def test_cost():
    """5,000 variables are matched in far less time than a batch takes, whatever their names."""
    layers = [Layer("dense", f"model/block_{i}/dense") for i in range(834)]
    renamed = [replace(layer, path=f"other_{i}") for i, layer in enumerate(layers)]
    before, same, now = listed(plain(layers)), listed(plain(layers)), plain(renamed)
    assert len(before.specs) > 5000
    started = thread_time()
    assert match_by_name(before.specs, same.specs)
    by_name = thread_time()
    assert match_variables(before, listed(now))
    by_order = thread_time()
    print(f"by name {(by_name - started) * 1e3:.1f} ms, else {(by_order - by_name) * 1e3:.1f} ms")
    assert by_name - started < 0.05
    assert by_order - by_name < 0.2
