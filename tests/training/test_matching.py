"""The matching of variables, on architectures without Keras: never wrong, and never a surprise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import thread_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks.training.matching.differences import MAX_LINES, differences
from keepfit.callbacks.training.matching.match import match_by_name, match_variables
from keepfit.callbacks.training.matching.specs import (
    UNKNOWN_OWNER,
    InvalidOrder,
    VariableList,
    VariableSpec,
    saved_variables,
)
from tests.training.architectures import (
    KINDS,
    Layer,
    Variable,
    architectures,
    dense,
    listed,
    manifest,
    plain,
    recorded,
    variables_of,
)

MORE = settings(max_examples=150)


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
    with pytest.raises(InvalidOrder):
        saved_variables(manifest(variables, {"variables": forged}))


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
