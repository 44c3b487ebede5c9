"""What a finished fit that trains on means for the fits after it: pure decisions about HEAD.

The fits after it began from what it has left behind: the model, the random state, the files. None
of that can be compared later, so they are trained anew. HEAD records which attempt has trained a
finished fit on: what older attempts have stored of the fits after it is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.manifest import Manifest

_MARK = "trained-on:"
"""Prefix of the baseline values of HEAD that name the attempt by which a fit was trained on."""

_MARKED = re.compile(rf"{_MARK}(\d{{1,10}})", re.ASCII)
_OF_FIT = re.compile(r"(\d{1,10}):", re.ASCII)


def baseline_of_training_on(head: Head, fit: int) -> dict[str, int]:
    """Return HEAD's baseline values once a finished fit trains on.

    Those of the fits after it are dropped: these begin again, with files of other sizes.
    """
    kept = {name: value for name, value in head.baseline.items() if _fit_of(name) <= fit}
    return {**kept, f"{_MARK}{fit}": head.attempt}


def is_out_of_date(manifest: Manifest, baseline: Mapping[str, int]) -> bool:
    """Return whether an earlier fit has been trained on since this checkpoint was written."""
    return any(
        (match := _MARKED.fullmatch(name))
        and int(match[1]) < manifest.position.fit
        and manifest.attempt < attempt
        for name, attempt in baseline.items()
    )


def without_fit(head: Head, fit: int, manifests: Mapping[str, Manifest]) -> dict[str, object]:
    """Return the fields of HEAD without the checkpoints of a fit, which begins again.

    Args:
        manifests: the manifests that HEAD names, by key.
    """
    return {
        "checkpoints": tuple(
            key
            for key in head.checkpoints
            if key not in manifests or manifests[key].position.fit != fit
        ),
        "finished": {i: key for i, key in head.finished.items() if i != fit},
        "continuations": {i: key for i, key in head.continuations.items() if i != fit},
    }


def _fit_of(name: str) -> int:
    """Return the fit to which a baseline value belongs; -1 if it belongs to the run."""
    match = _OF_FIT.match(name)
    return int(match[1]) if match else -1
