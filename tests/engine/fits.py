"""A call of `fit` for the tests of the engine, which run without Keras."""

from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.state_schema import ANY_STATE
from keepfit.callbacks.identity.fits import match_fit


class AnyFit:
    """A call that fits any checkpoint."""

    def __init__(self, name=None):
        self.name = name

    is_known = True
    schema = ANY_STATE

    def wait_until_known(self, given_up):
        """Have nothing to wait for."""

    def record(self, *, complete=True):
        """Return the same identity for all calls of this name."""
        return FitRecord(name=self.name, model="0" * 32, iterations=0)

    def match(self, known):
        """Match as a call of a script does."""
        return match_fit(self.record(), known)

    def report_ambiguous(self, match, *, repeated):
        """Report nothing."""

    def compare(self, key, manifest, record):
        """Refuse nothing."""

    def wants_more(self, manifest):
        """Ask for no more than is there."""
        return False

    def close(self):
        """Have nothing to wait for."""
