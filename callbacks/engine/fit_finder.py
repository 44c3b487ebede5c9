"""Find the fit that a call asks for in its run, and compare both before anything is taken over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.head import Head, ScriptRecord
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.read.reader import manifests_of_fit
from keepfit.callbacks.identity import scripts
from keepfit.callbacks.identity.fits import FitMatch, KnownFits, MatchedBy, RequestedFit
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Store

log = get_logger()


class FitFinder:
    """Finds the fits of one run for the calls of this process.

    Args:
        resume: the user accepts another script or other arguments.
    """

    def __init__(self, store: Store, *, resume: bool) -> None:
        self._store = store
        self._resume = resume
        self._by_number = False
        self._ambiguity_reported = False

    def find_first(
        self, requested: RequestedFit, head: Head | None, script: ScriptRecord | None
    ) -> FitMatch:
        """Compare this process with a run that it has not claimed; return the requested fit.

        Args:
            head: HEAD of the run; None if the run is new.
            script: the script of this process, if any.

        Raises:
            Refused: the script, the training or its input differs from the run's.
            StorageError: the store failed.
        """
        if head is None:
            return requested.match(KnownFits())
        self._by_number = not head.fits and bool(head.manifests())
        known = KnownFits(
            head.fits,
            head.finished.keys(),
            by_number=self._by_number,
            script_changed=scripts.is_changed(head.script, script),
        )
        match = requested.match(known)
        newest = None if match.is_new else self._newest_of_fit(head, match.index, requested)
        wants_more = newest is not None and requested.wants_more(newest[1])
        scripts.check_script(head, script, resume=self._resume, wants_more=wants_more)
        self._check(requested, match)
        if newest:
            requested.compare(*newest, head.fits.get(match.index))
        return match

    def find_next(
        self,
        requested: RequestedFit,
        head: Head,
        begun: Sequence[int],
        unrecorded: Mapping[int, RequestedFit],
    ) -> FitMatch:
        """Return the fit of a claimed run that is requested.

        Args:
            begun: the indexes of the fits that this process has begun.
            unrecorded: those of them that HEAD does not record yet.

        Raises:
            Refused: that is ambiguous, and the training has to be exact.
        """
        own = {i: fit.record() for i, fit in unrecorded.items() if i not in head.fits}
        known = KnownFits({**head.fits, **own}, head.finished.keys(), begun, self._by_number)
        match = requested.match(known)
        self._check(requested, match)
        return match

    def _check(self, requested: RequestedFit, match: FitMatch) -> None:
        """Report an ambiguous match; once is enough, except to refuse."""
        if match.ambiguous:
            requested.report_ambiguous(match, repeated=self._ambiguity_reported)
            self._ambiguity_reported = True

    def _newest_of_fit(
        self, head: Head, index: int, requested: RequestedFit
    ) -> tuple[str, Manifest] | None:
        """Return the newest readable checkpoint of a fit, by key and manifest, without its data."""
        keys = checkpoints_of_fit(head, index)
        # A manifest that is rejected here is reported when it is read after the claim.
        manifests = manifests_of_fit(
            self._store, head.run, keys, index, lambda *_: None, requested.schema
        )
        return next(manifests, None)


def checkpoints_of_fit(head: Head, index: int) -> tuple[str, ...]:
    """Return the keys of the checkpoints among which to look for those of a fit, newest first."""
    return (head.finished[index],) if index in head.finished else head.checkpoints


def report_first(match: FitMatch, head: Head) -> None:
    """Log how the first fit of this process was found in a run that has others."""
    if match.by is MatchedBy.NUMBER:
        log.info(
            events.FITS_BY_NUMBER,
            run=head.run,
            reason="keepfit 0.1 has begun this run, and did not record what each fit asks for; "
            "the fits are told apart by their order",
        )
    elif match.is_new and head.fits:
        log.info(
            events.FIT_NEW,
            run=head.run,
            fit=match.index + 1,
            reason=f"it asks for another training than the {len(head.fits)} fits that the run has: "
            "another model, compilation, input or place in the script",
        )
