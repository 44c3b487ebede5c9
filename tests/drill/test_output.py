"""Standard output: what differs between two runs only by their speed is not compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.job.drill.compare.output import KEPT_LINES, last_lines, mask, outside_of, shown

BAR = "\x1b[1m{0}/2\x1b[0m \x1b[32m━━━━\x1b[0m \x1b[1m0s\x1b[0m {1}ms/step - loss: 1.38"


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("loss 0.25", "loss 0.25"),
        ("took 3.2 s", "took …"),
        ("took 12s, 3ms/step", "took …, …"),
        ("8/8 - 0s - 34ms/step - loss: 7.4865", "8/8 - … - … - loss: 7.4865"),
        ("2026-11-28 17:45:49.013 done", "… done"),
        ("2026-11-28T17:45:49Z done", "… done"),
        ("at 17:45:49", "at …"),
        ("<Model at 0x7f3a2b4c5d6e>", "<Model at …>"),
        ("epoch 3 of 12 steps", "epoch 3 of 12 steps"),
        ("5 samples, 7 hosts, 3 months", "5 samples, 7 hosts, 3 months"),
        ("v2s model", "v2s model"),
        ("accuracy=0.912", "accuracy=0.912"),
    ],
)
def test_durations_and_times_are_masked(line, masked):
    """And nothing else is."""
    assert mask(line) == masked


@given(st.text(max_size=80))
def test_mask_is_idempotent(line):
    """A masked line has nothing left to mask."""
    assert mask(mask(line)) == mask(line)


@pytest.mark.parametrize("between", ["\r", "\x08" * 40, "\x08" * 40 + "\n"])
def test_only_the_full_bar_is_shown(between):
    """However often Keras has drawn it."""
    slow = BAR.format(1, 99) + between + BAR.format(2, 11) + "\nend\n"
    fast = BAR.format(2, 3) + "\nend\n"
    assert last_lines(slow.encode(), []) == last_lines(fast.encode(), [])
    assert len(shown(slow)) == 2


def test_a_fraction_is_no_bar():
    """A line of the script's own that begins with one is compared."""
    assert shown("1/2 of the folds done") == ["1/2 of the folds done"]


def test_what_fits_print_is_left_out():
    """A resumed attempt prints other epochs."""
    content = b"begin\nEpoch 1\nmiddle\nEpoch 2\nend\n"
    ranges = [(6, 14), (21, 29)]
    assert shown(outside_of(content, ranges)) == ["begin", "middle", "end"]


def test_the_last_lines_are_compared():
    """Of those that are kept: the others may be between them in another run."""
    content = "".join(f"line {i}\n" for i in range(2000)).encode()
    lines = last_lines(content, [])
    assert lines == [f"line {i}" for i in range(2000 - KEPT_LINES, 2000)]
