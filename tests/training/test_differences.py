"""How a refusal describes the differences of variables: by layer, and briefly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keepfit.callbacks.training.matching.differences import MAX_LINES, differences
from tests.training.architectures import Layer, listed, plain


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
