"""Every `fit` of a process made resumable without a line in its script, as `keepfit run` does it.

A `fit` whose callbacks contain no Resumable gets one, which holds all of them. Training that is no
`fit` can't be resumed: it is named when it begins. Nothing of Keras or TensorFlow is imported here
before the script does it, because the script may set variables that they read on import.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from keepfit.callbacks import events
from keepfit.callbacks.engine import preemption
from keepfit.callbacks.environment import check_environment, is_supported
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.keras.import_hooks import changed_when_imported
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.settings import Settings

if TYPE_CHECKING:
    import keras

log = get_logger()

_OWN_RUN: Final = "give it a run of its own: callbacks=[Resumable(run=…)]"

_USE_FIT: Final = (
    "put the step into `train_step` of a keras.Model and train it with fit; or save the state with "
    "tf.train.Checkpoint"
)


@contextmanager
def hold_every_fit() -> Iterator[EveryFit]:
    """Make each `fit` of this process resumable, until the block ends.

    Example:

    ```python
    with hold_every_fit():
        runpy.run_path("train.py")
    ```
    """
    every_fit = EveryFit()
    with (
        changed_when_imported("keras", every_fit.watching_keras),
        changed_when_imported("tf_keras", every_fit.watching_legacy_keras),
    ):
        yield every_fit


class EveryFit:
    """Holds the callbacks of each `fit` of one process, and names training that it can't hold."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._deciding = threading.Lock()
        self._threads: set[int] = set()
        self._reported: set[str] = set()
        self._fit_has_begun = False
        self._other_training = False

    @property
    def has_named_other_training(self) -> bool:
        """True if the script has trained in a way that can't be resumed, and the log says so."""
        return self._other_training

    @contextmanager
    def watching_keras(self, module: ModuleType) -> Iterator[None]:
        """Watch what the script does with Keras, which it has just imported."""
        with ExitStack() as stack:
            if is_supported():
                from keepfit.callbacks.training import internals

                model, optimizer = module.Model, module.optimizers.Optimizer
                stack.enter_context(internals.KerasCalls.announced_to(self))
                stack.enter_context(
                    _called_before(model, "train_on_batch", self._train_on_batch_begins)
                )
                stack.enter_context(_called_before(optimizer, "apply", self._step_begins))
            else:
                stack.enter_context(_called_before(module.Model, "fit", self._refuse_environment))
            yield

    def watching_legacy_keras(self, module: ModuleType) -> AbstractContextManager[None]:
        """Watch models of Keras 2, which keepfit can't hold."""
        return _called_before(module.Model, "fit", self._legacy_training_begins)

    def fit_creates_list(self, fit: keras.callbacks.CallbackList) -> None:
        """Add a Resumable to the list that a `fit` has created, if there is none."""
        with preemption.current().recording_end():
            self._hold(fit)

    def fit_uses_list(self, fit: keras.callbacks.CallbackList) -> None:
        """Add a Resumable to a list that the script has created for a `fit`.

        Keras has called `set_model` of the callbacks in it, so the Resumable names them.
        """
        with preemption.current().recording_end():
            if added := self._hold(fit):
                added.set_params(fit.params)
                added.set_model(fit.model)

    def call_begins(self, method: str) -> None:
        """Name an evaluation or prediction that comes before any `fit`: there may be none."""
        from keepfit.callbacks.training import internals

        in_fit = internals.count_fits(threading.get_ident()) > 0
        if not (self._fit_has_begun or in_fit or "evaluate" in self._reported):
            self._reported.add("evaluate")
            log.info(
                events.EVALUATION_REPEATED,
                method=method,
                reason=f"`{method}` is called before any fit; each attempt does it anew",
            )

    def _refuse_environment(self) -> None:
        """Refuse a `fit` in an environment that is not supported. Raises Refused."""
        with preemption.current().recording_end():
            check_environment()

    def _hold(self, fit: keras.callbacks.CallbackList) -> keras.callbacks.Callback | None:
        """Add a Resumable to a list; return None if it has one, or can't have one."""
        from keepfit.callbacks.keras.resumable import Resumable
        from keepfit.callbacks.training import internals

        self._fit_has_begun = True
        if _has_resumable(fit.callbacks):
            return None
        if obstacle := self._obstacle():
            self._report(events.FIT_UNSAVED, obstacle, _OWN_RUN)
            return None
        resumable = Resumable()
        internals.insert_callback(fit, 0, resumable)
        self._report_first(resumable.settings)
        return resumable

    def _obstacle(self) -> str | None:
        """Return why the `fit` that begins in this thread can't be held; None if it can."""
        from keepfit.callbacks.training import internals

        own = threading.get_ident()
        with self._deciding:
            if os.getpid() != self._process:
                return "this fit runs in a forked process, and the run belongs to its parent"
            if internals.count_fits(own) > 1:
                return "this fit is called within another one, whose position is that of the run"
            if any(internals.count_fits(thread) for thread in self._threads - {own}):
                return "another fit of the run is under way in another thread"
            self._threads.add(own)
            return None

    def _report_first(self, settings: Settings) -> None:
        if "first" not in self._reported:
            self._reported.add("first")
            log.info(
                events.FITS_HELD,
                run=settings.run,
                reason="each fit of the script is resumable, as if its callbacks were in Resumable",
                fix="--only-explicit turns this off",
            )

    def _train_on_batch_begins(self) -> None:
        self._training_begins("the script trains with train_on_batch")

    def _step_begins(self) -> None:
        self._training_begins("the script applies gradients in a training loop of its own")

    def _legacy_training_begins(self) -> None:
        self._other_training = True
        self._report(
            events.NOT_RESUMABLE,
            "the script trains a model of tf_keras, which is Keras 2",
            "build it with `import keras` instead of `import tf_keras`",
        )

    def _training_begins(self, how: str) -> None:
        """Name training outside of `fit`, once: what keeps a `fit` exact does not see it."""
        if self._other_training:
            return
        from keepfit.callbacks.training import internals

        if not internals.count_all_fits():
            self._other_training = True
            self._report(
                events.NOT_RESUMABLE, f"{how}, which starts over after an interruption", _USE_FIT
            )

    def _report(self, event: str, reason: str, fix: str) -> None:
        """Report once what can't be resumed. Raises Refused if the training has to be exact."""
        if reason not in self._reported:
            self._reported.add(reason)
            with preemption.current().recording_end():
                ExactnessGuard(exact=Settings.resolve().exact).report(event, reason=reason, fix=fix)


def _has_resumable(callbacks: list[Any]) -> bool:
    """Return whether a Resumable is in the list, or an attribute of a callback in it."""
    from keepfit.callbacks.keras.resumable import Resumable

    own = [value for callback in callbacks for value in vars(callback).values()]
    inside = [each for value in own if isinstance(value, list | tuple) for each in value]
    return any(isinstance(each, Resumable) for each in (*callbacks, *own, *inside))


@contextmanager
def _called_before(owner: type, name: str, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` before each call of a method, until the block ends."""
    method = getattr(owner, name)
    is_own = name in vars(owner)

    @functools.wraps(method)
    def calls_action(*args: Any, **named: Any) -> Any:
        action()
        return method(*args, **named)

    # AutoGraph leaves functions of Keras as they are, by their module, which `wraps` has copied.
    setattr(owner, name, calls_action)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, method)
        else:
            delattr(owner, name)
