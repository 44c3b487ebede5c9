"""A call of `fit`: its identity, by which its place in the run is found."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import keras
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.state_schema import StateSchema
from keepfit.callbacks.engine.versions import changed_versions, library_versions
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.identity.fits import FitMatch, KnownFits, MatchedBy, match_fit
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training import refusal
from keepfit.callbacks.training.identity.call_site import CallSite
from keepfit.callbacks.training.identity.inputs import FitInput, InputContent, input_content
from keepfit.callbacks.training.identity.model_digest import (
    describe_architecture,
    describe_compilation,
    digest_text,
)
from keepfit.callbacks.training.identity.settings import FitSettings

log = get_logger()

SAMPLE = 1 << 14
"""Numbers of a weight that are compared at the start of a fit: 0.1 ms."""

MAX_UNKNOWN = 10
"""Unknown parts of an input that HEAD and the log name; one is enough to make it unknown."""

NOTICE_SECONDS = 0.1
"""Seconds after which a wait for a digest asks whether it is given up."""

END_SECONDS = 5.0
"""Seconds for which the end of a process waits for a digest under way."""


class FitRequest:
    """A call of `fit` with its identity, which is digested on a thread of its own.

    The training thread waits for the digest only if the run has fits to compare it with.

    Args:
        name: the name that the script has given to the fit, if any.
        settings: the input and the hyperparameters of the call.
        given: the input itself, which is released when it is digested.
        guard: refuses an ambiguous fit if the training has to be exact.
        start_is_known: False if the model lacks the final state of the fit before, which was not
            kept.
        schema: the schema of the states that the call can resume from.
        compare: compares a checkpoint's key and manifest with the model.
        wants_more: returns whether the fit with this final manifest is asked for more.
    """

    def __init__(
        self,
        model: keras.Model,
        name: str | None,
        settings: FitSettings,
        given: FitInput,
        guard: ExactnessGuard,
        schema: StateSchema,
        compare: Callable[[str, Manifest], None],
        wants_more: Callable[[Manifest], bool],
        *,
        start_is_known: bool = True,
    ) -> None:
        self.schema = schema
        self._settings = settings
        self._guard = guard
        self._reported: set[str] = set()
        self._compare = compare
        self._wants_more = wants_more
        self._site = CallSite.current()
        self._known = FitRecord(
            name=name,
            site=self._site.name,
            iterations=_iterations(model) if start_is_known else None,
            weights=_sample_weights(model) if start_is_known else None,
        )
        described = describe_compilation(model), settings.input.identity()
        self._model_digest = _digest_on_thread(
            "model", lambda: digest_text(*described, describe_architecture(model)), None
        )
        if not model.built:  # the first batch builds it, at the same time
            self._model_digest.result()
        nothing = InputContent(None, ("the input",))
        self._input = _digest_on_thread("input", lambda: input_content(given), nothing)

    @property
    def is_known(self) -> bool:
        """True once the digests are computed."""
        return self._model_digest.done() and self._input.done()

    def wait_until_known(self, given_up: Callable[[], bool]) -> None:
        """Wait until the digests are computed or `given_up()` is true. Any thread may call it."""
        while not (self.is_known or given_up()):
            self._wait(NOTICE_SECONDS)

    def record(self, *, complete: bool = True) -> FitRecord:
        """Return the identity of the fit. Any thread may call it.

        Args:
            complete: wait for digests under way; otherwise they are left out.
        """
        known: dict[str, Any] = {}
        if complete or self._model_digest.done():
            known["model"] = _shortened(self._model_digest.result())
        if complete or self._input.done():
            content = self._input.result()
            unknown = tuple(part[:200] for part in content.unknown[:MAX_UNKNOWN])
            known |= {"data": _shortened(content.digest), "unknown": unknown}
        return self._known.model_copy(update=known)

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
        if match.by is MatchedBy.EQUAL and (unknown := self.record().unknown):
            same = "a finished fit of this run has the same model, compilation and place in the "
            same += f"script, and of the input {'; '.join(unknown)} can't be compared"
        else:
            which = "an earlier fit" if match.is_new else "another fit"
            same = f"{which} of this run has the same model, compilation, data and place in the "
            same += "script"
        self._guard.report(
            events.FIT_AMBIGUOUS,
            fit=match.index + 1,
            reason=f"{same}; they are told apart by their order, which is wrong if the script "
            "skips fits that it has finished",
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
        self._settings.compare(key, manifest, self._guard)
        self._compare(key, manifest)
        if changed := changed_versions(manifest.versions, library_versions()):
            self._report_once(
                events.VERSIONS_CHANGED,
                key,
                f"{', '.join(changed)}; another version may compute other bits",
                "install the versions of the checkpoint; or train anew with --run NAME or --fresh",
            )
        if record is None:
            return
        own = self.record()
        if own.data and record.data and own.data != record.data:
            raise refusal.refusal(
                key, "the content of the input differs from that of the training in the checkpoint"
            )
        if own.model != record.model and not self._settings.differs(manifest):
            self._report_once(
                events.FIT_CHANGED,
                key,
                "the model's configuration or compilation differs from that of the training in the "
                "checkpoint, and its variables fit",
                "values in variables continue from the checkpoint, all others are as the script "
                "sets them; for a new training use --run NAME or --fresh",
            )

    def _report_once(self, event: str, key: str, reason: str, fix: str) -> None:
        """Report a difference from a checkpoint, unless this call has reported it before."""
        if event not in self._reported:
            self._reported.add(event)
            self._guard.report(event, checkpoint=key, reason=reason, fix=fix)

    def wants_more(self, manifest: Manifest) -> bool:
        """Return whether the call asks a finished fit for more than it has done."""
        return self._wants_more(manifest)

    def close(self) -> None:
        """Wait a limited time for digests under way: the process must not end inside TensorFlow."""
        self._wait(END_SECONDS)

    def _wait(self, seconds: float) -> None:
        under_way: tuple[Future[Any], ...] = (self._model_digest, self._input)
        wait(under_way, seconds)


def _iterations(model: keras.Model) -> int | None:
    optimizer = getattr(model, "optimizer", None)
    return 0 if optimizer is None else int(keras.ops.convert_to_numpy(optimizer.iterations))


def _sample_weights(model: keras.Model) -> str | None:
    """Return a digest of a part of the first and the last weight; None if there are none yet."""
    weights = [w for w in model.weights if "float" in str(w.dtype)] if model.built else []
    if not weights:
        return None
    sha = hashlib.sha256()
    for weight in (weights[0], weights[-1]):
        flat = tf.reshape(tf.convert_to_tensor(weight.value), [-1])
        sha.update(flat[:SAMPLE].numpy().tobytes())
    return _shortened(sha.hexdigest())


def _shortened(digest: str | None) -> str | None:
    """Return the part of a SHA-256 that a FitRecord contains."""
    return digest and digest[:32]


T = TypeVar("T")


def _digest_on_thread(part: str, digest: Callable[[], T], without: T) -> Future[T]:
    """Call `digest` on a thread that ends with it; return its future result.

    Args:
        without: the result if it can't be digested.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(digest())
        except Exception as error:  # noqa: BLE001 # the input is the user's, and may raise anything
            log.warning(
                events.FIT_UNIDENTIFIED,
                part=part,
                reason=f"it can't be digested: {type(error).__name__}: {error}",
                fix='give each fit a name of its own: Resumable(name="…")',
            )
            future.set_result(without)

    threading.Thread(target=work, name=f"keepfit-digest-{part}", daemon=True).start()
    return future
