"""A call of `fit`: its identity, by which its place in the run is found."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import keras
import structlog
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.manifest import FitRecord, Manifest
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.identity.fits import FitMatch, KnownFits, match_fit
from keepfit.callbacks.training import refusal
from keepfit.callbacks.training.identity.call_site import CallSite
from keepfit.callbacks.training.identity.inputs import FitInput, content_digest
from keepfit.callbacks.training.identity.model_digest import (
    describe_architecture,
    describe_compilation,
    digest_text,
)

log = structlog.get_logger("keepfit")

SAMPLE = 1 << 14
"""Numbers of a weight that are compared at the start of a fit: 0.1 ms."""

END_SECONDS = 5.0
"""Seconds for which the end of a process waits for a digest under way."""


class FitRequest:
    """A call of `fit` with its identity, which is digested on a thread of its own.

    The training thread waits for the digest only if the run has fits to compare it with.

    Args:
        name: the name that the script has given to the fit, if any.
        guard: refuses an ambiguous fit if the training has to be exact.
        start_is_known: False if the model lacks the final state of the fit before, which was not
            kept.
        compare: compares a checkpoint's key and manifest with the model.
        wants_more: returns whether the fit with this final manifest is asked for more.
    """

    def __init__(
        self,
        model: keras.Model,
        name: str | None,
        guard: ExactnessGuard,
        compare: Callable[[str, Manifest], None],
        wants_more: Callable[[Manifest], bool],
        *,
        start_is_known: bool = True,
    ) -> None:
        self._guard = guard
        self._compare = compare
        self._wants_more = wants_more
        self._site = CallSite.current()
        self._known = FitRecord(
            name=name,
            site=self._site.name,
            iterations=_iterations(model) if start_is_known else None,
            weights=_sample_weights(model) if start_is_known else None,
        )
        compilation = describe_compilation(model)
        self._model_digest = _digest_on_thread(
            "model", lambda: digest_text(compilation, describe_architecture(model))
        )
        if not model.built:  # the first batch builds it, at the same time
            self._model_digest.result()
        given = FitInput.current(model)
        self._data_digest = _digest_on_thread("input", lambda: content_digest(given))

    def record(self, *, complete: bool = True) -> FitRecord:
        """Return the identity of the fit. Any thread may call it.

        Args:
            complete: wait for digests under way; otherwise they are left out.
        """
        return self._known.model_copy(
            update={
                "model": _result(self._model_digest, complete=complete),
                "data": _result(self._data_digest, complete=complete),
            }
        )

    def match(self, known: KnownFits) -> FitMatch:
        """Return the fit of the run that this call is."""
        if not known.records:
            return match_fit(self._known, known)
        may_be_changed = not self._site.in_library
        return match_fit(self.record(), known, may_be_changed=may_be_changed)

    def report_ambiguous(self, match: FitMatch, *, repeated: bool) -> None:
        """Report that nothing but the order tells this call from others; once is enough.

        Args:
            repeated: an earlier call has been reported.

        Raises:
            Refused: the training has to be exact.
        """
        if repeated and not self._guard.refusing:
            return
        which = "an earlier fit" if match.is_new else "another fit"
        self._guard.report(
            events.FIT_AMBIGUOUS,
            fit=match.index + 1,
            reason=f"{which} of this run has the same model, compilation, data and place in the "
            "script; they are told apart by their order, which is wrong if the script skips fits "
            "that it has finished",
            fix='give each fit a name of its own: Resumable(name="…")',
        )

    def compare(self, key: str, manifest: Manifest, record: FitRecord | None) -> None:
        """Compare the call with a checkpoint of the fit that it was matched with.

        Args:
            key: the key of the manifest.
            record: the fit's identity in the run; None if keepfit 0.1 has written it.

        Raises:
            Refused: they differ; nothing was taken over.
        """
        self._compare(key, manifest)
        if record is None:
            return
        own = self.record()
        if own.data and record.data and own.data != record.data:
            raise refusal.refusal(
                key, "the content of the input differs from that of the training in the checkpoint"
            )
        if own.model != record.model:
            self._guard.report(
                events.FIT_CHANGED,
                checkpoint=key,
                reason="the model's configuration or compilation differs from that of the training "
                "in the checkpoint, and its variables fit",
                fix="values in variables continue from the checkpoint, all others are as the "
                "script sets them; for a new training use --run NAME or --fresh",
            )

    def wants_more(self, manifest: Manifest) -> bool:
        """Return whether the call asks a finished fit for more than it has done."""
        return self._wants_more(manifest)

    def close(self) -> None:
        """Wait a limited time for digests under way: the process must not end inside TensorFlow."""
        wait((self._model_digest, self._data_digest), END_SECONDS)


def _iterations(model: keras.Model) -> int | None:
    optimizer = getattr(model, "optimizer", None)
    return 0 if optimizer is None else int(optimizer.iterations)


def _sample_weights(model: keras.Model) -> str | None:
    """Return a digest of a part of the first and the last weight; None if there are none yet."""
    weights = [w for w in model.weights if "float" in str(w.dtype)] if model.built else []
    if not weights:
        return None
    sha = hashlib.sha256()
    for weight in (weights[0], weights[-1]):
        flat = tf.reshape(tf.convert_to_tensor(weight.value), [-1])
        sha.update(flat[:SAMPLE].numpy().tobytes())
    return sha.hexdigest()


def _digest_on_thread(kind: str, digest: Callable[[], str | None]) -> Future[str | None]:
    """Call `digest` on a thread that ends with it; return its future result."""
    future: Future[str | None] = Future()

    def work() -> None:
        try:
            future.set_result(digest())
        except Exception as error:  # noqa: BLE001 # the input is the user's, and may raise anything
            log.warning(
                events.FIT_UNIDENTIFIED,
                part=kind,
                reason=f"it can't be digested: {type(error).__name__}: {error}",
                fix='give each fit a name of its own: Resumable(name="…")',
            )
            future.set_result(None)

    threading.Thread(target=work, name=f"keepfit-digest-{kind}", daemon=True).start()
    return future


def _result(future: Future[str | None], *, complete: bool) -> Any:
    return future.result() if complete or future.done() else None
