"""Wrappers that make a working store fail in one chosen way."""

import threading

from keepfit.callbacks.storage.base import StorageError, Transient


class Wrapped:
    """A store that forwards every call to another one, and records the keys that are put."""

    def __init__(self, store):
        self._store = store
        self.puts = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put(self, key, body, *, digest=None):
        self.puts.append(key)
        self._store.put(key, body, digest=digest)


class FailingPut(Wrapped):
    """A store in which the n-th put after `arm` fails, before or after it is carried out."""

    def __init__(self, store):
        super().__init__(store)
        self.arm(None)

    def arm(self, at, happens=False):
        self.puts, self._at, self._happens = [], at, happens

    def put(self, key, body, *, digest=None):
        failing = self._at == len(self.puts)
        if not failing or self._happens:
            super().put(key, body, digest=digest)
        if failing:
            self._at = None
            raise StorageError(f"no network while writing {key}")


class UnclearSwap(Wrapped):
    """A store whose next swap raises Transient, whether or not it was carried out.

    Attributes:
        blind: loads fail too, as if the network were still down.
    """

    def __init__(self, store):
        super().__init__(store)
        self._unclear = self._happens = self._then_blind = self.blind = False

    def arm(self, *, happens, blind=False):
        self._unclear, self._happens, self._then_blind = True, happens, blind

    def swap(self, key, body, *, expected):
        if not self._unclear:
            return self._store.swap(key, body, expected=expected)
        if self._happens:
            self._store.swap(key, body, expected=expected)
        self._unclear, self.blind = False, self._then_blind
        raise Transient(f"no answer about {key}")

    def load(self, key):
        if self.blind:
            raise StorageError(f"no network while reading {key}")
        return self._store.load(key)


class LateSwap(Wrapped):
    """A store whose next swap raises Transient and is carried out just before the swap after it."""

    def __init__(self, store):
        super().__init__(store)
        self.armed, self._late = False, None

    def swap(self, key, body, *, expected):
        if self.armed:
            self.armed, self._late = False, (body, expected)
            raise Transient(f"no answer about {key}")
        if self._late:
            (late, version), self._late = self._late, None
            self._store.swap(key, late, expected=version)
        return self._store.swap(key, body, expected=expected)


class Interrupting(Wrapped):
    """A store that calls `between` once before the next swap, as if another process were faster."""

    def __init__(self, store):
        super().__init__(store)
        self.between = None

    def swap(self, key, body, *, expected):
        between, self.between = self.between, None
        if between:
            between()
        return self._store.swap(key, body, expected=expected)


class Hanging(Wrapped):
    """A store in which chosen calls of `put` and `delete` hang until they are released.

    Args:
        hangs: called with the method's name and the key; returns whether this call hangs.
    """

    parallel = 4

    def __init__(self, store, hangs):
        super().__init__(store)
        self._hangs = hangs
        self._released = threading.Event()
        self._entered = threading.Event()

    def put(self, key, body, *, digest=None):
        self._pass("put", key)
        super().put(key, body, digest=digest)

    def delete(self, key):
        self._pass("delete", key)
        self._store.delete(key)

    def wait_until_one_hangs(self):
        assert self._entered.wait(10), "nothing hangs"

    def release(self):
        """Let all calls go on, now and later."""
        self._released.set()

    def _pass(self, method, key):
        if not self._released.is_set() and self._hangs(method, key):
            self._entered.set()
            assert self._released.wait(30), f"{method} of {key} was never released"
