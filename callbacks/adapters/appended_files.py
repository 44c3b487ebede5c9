"""Files that hooks of callbacks open themselves to append to them, and close again.

A script names such a file only when it opens it. So a resumed run cuts the file back to the
checkpoint at that moment, right before the file is opened. Until then, the checkpoints of the
attempt name the file as the one before them does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keepfit.callbacks import events
from keepfit.callbacks.files.append_opens import append_opens
from keepfit.callbacks.files.file_helpers import file_size
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()


@dataclass(frozen=True)
class AppendingFit:
    """What the files of one `fit` need to know of it.

    Attributes:
        is_running: returns False once the `fit` call has ended.
        is_kept: returns whether another adapter keeps the file at a path.
        cut_back: restores the file at a path, which the script is about to open for the first time.
        sizes: the sizes of the append-only files at the checkpoint, if the fit is resumed.
    """

    is_running: Callable[[], bool]
    is_kept: Callable[[str], bool]
    cut_back: Callable[[str], None]
    sizes: Mapping[str, int] = field(default_factory=dict)


class AppendedFiles:
    """The files that one fit's hooks have opened to append to them."""

    def __init__(self) -> None:
        self._fit: AppendingFit | None = None
        self._opened: dict[str, None] = {}

    @property
    def opened(self) -> list[str]:
        """The paths that the script has opened."""
        return [*self._opened]

    def begin(self, fit: AppendingFit) -> None:
        """Follow a fit, before `on_train_begin` of its callbacks, on their thread."""
        self._fit, self._opened = fit, {}
        append_opens().listen(self.opening)

    def end(self) -> None:
        """Leave the fit."""
        self._fit = None
        append_opens().stop()

    def sizes(self) -> dict[str, int]:
        """Return the present sizes of opened files; those of the checkpoint of the others."""
        if self._fit is None:
            return {}
        saved = {p: size for p, size in self._fit.sizes.items() if not self._fit.is_kept(p)}
        present = {path: file_size(path) for path in self._opened if Path(path).is_file()}
        return {**saved, **present}

    def opening(self, path: str | int) -> None:
        """Cut a file back before the script opens it for the first time."""
        if self._fit is None or not self._fit.is_running():
            self.end()
        elif isinstance(path, int):
            _report_unnamed()
        elif path not in self._opened and not self._fit.is_kept(path) and _is_regular(path):
            self._opened[path] = None
            self._fit.cut_back(path)


def _is_regular(path: str) -> bool:
    """Return whether a path is that of a file, or of nothing yet; no device and no pipe."""
    return Path(path).is_file() or (not os.path.lexists(path) and Path(path).parent.is_dir())


def _report_unnamed() -> None:
    named = append_opens().named
    if events.FILE_UNNAMED in named:
        return
    named.add(events.FILE_UNNAMED)
    log.warning(
        events.FILE_UNNAMED,
        reason="a file is opened by its number, to append to it, so its path is not known; after "
        "an interruption it contains some lines twice",
        fix="open it by its path",
    )
