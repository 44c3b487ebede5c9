"""The name of the notebook whose kernel this process is, where the server tells it.

Jupyter Server sets JPY_SESSION_NAME for each kernel that it starts, and VS Code sets a variable in
the namespace of the notebook. nbconvert, nbclient and Colab tell nothing. papermill can insert the
paths as parameters, but saves them in the output notebook: a copy of it would have the name of
another notebook, so they are not used.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SESSION = "JPY_SESSION_NAME"
_VS_CODE = "__vsc_ipynb_file__"
_TEMPORARY = re.compile(r"-jvsc-[0-9a-f-]{8,}")
"""Part of the path that VS Code gives a notebook on a remote server, with a new id each time."""


def kernel_shell() -> Any:
    """Return the IPython shell of this process if it is the kernel of a notebook, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None


def notebook_path(
    namespace: Mapping[str, Any], environ: Mapping[str, str], of_parent: Mapping[str, str] | None
) -> str | None:
    """Return the path of the notebook, or None if its server does not tell it.

    Args:
        namespace: the variables of the notebook.
        environ: the environment of the kernel.
        of_parent: the environment of the process that has started the kernel; None if it can't be
            read. A kernel that nbconvert has started within a notebook inherits the name of that
            notebook, and its parent has the same.
    """
    if isinstance(path := namespace.get(_VS_CODE), str) and path:
        return path
    session = environ.get(_SESSION)
    if not session or of_parent is None or of_parent.get(_SESSION) == session:
        return None
    # The consoles of JupyterLab have no suffix, and a new name each time.
    return session if Path(session).suffix and not _TEMPORARY.search(session) else None


def environment_of_parent() -> Mapping[str, str] | None:
    """Return the environment that the parent process was started with, or None."""
    try:
        content = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return None
    pairs = (os.fsdecode(entry).partition("=") for entry in content.split(b"\0"))
    return {name: value for name, _, value in pairs}
