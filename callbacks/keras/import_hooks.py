"""Changes of a module that the script has yet to import: it may set variables before it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import ModuleType

import wrapt


@contextmanager
def changed_when_imported(
    name: str, change: Callable[[ModuleType], AbstractContextManager[None]]
) -> Iterator[None]:
    """Change a module as soon as it is imported, at once if it is already, until the block ends.

    Args:
        change: returns a context in which the module is changed; its end undoes the changes.
    """
    with ExitStack() as stack:
        is_open = True

        def imported(module: ModuleType) -> None:
            if is_open:  # the hook can't be removed
                stack.enter_context(change(module))

        wrapt.register_post_import_hook(imported, name)
        try:
            yield
        finally:
            is_open = False
