"""What a shell completes: the names of the runs of a store in a directory."""

from __future__ import annotations

import typer


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of runs that begin with `incomplete`; none of a store in S3.

    A shell waits for the answer at each press of the tab key, so there are no requests over a
    network, and no messages: a store that can't be listed has no names.
    """
    from keepfit.callbacks.errors import ConfigurationError
    from keepfit.callbacks.settings import StoreSettings
    from keepfit.callbacks.storage import open_store
    from keepfit.callbacks.storage.base import StorageError

    try:
        uri = StoreSettings.resolve(store=context.params.get("store")).store
        if not uri.startswith("file://"):
            return []
        return [name for name in open_store(uri).folders("") if name.startswith(incomplete)]
    except (ConfigurationError, StorageError):
        return []
