"""The names of notebooks: two notebooks have two names, or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from keepfit.callbacks.launch.notebook import notebook_path
from tests.e2e.process import ROOT

NOTHING: dict[str, str] = {}
CATS = {"JPY_SESSION_NAME": "folder/cats.ipynb"}
TEMPORARY = {"JPY_SESSION_NAME": "cats-jvsc-1f0a7c9e-5b1d-4c55-9a0e-aaaaaaaaaaaa.ipynb"}
FOUND = {
    "Jupyter Server": ({}, CATS, NOTHING, "folder/cats.ipynb"),
    "VS Code": (
        {"__vsc_ipynb_file__": "/home/me/dogs.ipynb"},
        NOTHING,
        NOTHING,
        "/home/me/dogs.ipynb",
    ),
    "VS Code on a remote server": (
        {"__vsc_ipynb_file__": "/home/me/cats.ipynb"},
        TEMPORARY,
        NOTHING,
        "/home/me/cats.ipynb",
    ),
    "a temporary name of VS Code": ({}, TEMPORARY, NOTHING, None),
    "a server within a notebook": (
        {},
        CATS,
        {"JPY_SESSION_NAME": "outer.ipynb"},
        "folder/cats.ipynb",
    ),
    "nbconvert within a notebook": ({}, CATS, CATS, None),
    "a parent that can't be read": ({}, CATS, None, None),
    "nbconvert": ({}, NOTHING, NOTHING, None),
    "papermill": ({"PAPERMILL_OUTPUT_PATH": "out.ipynb"}, NOTHING, NOTHING, None),
    "a console": ({}, {"JPY_SESSION_NAME": "console-1-1f0a7c9e"}, NOTHING, None),
    "no text": ({"__vsc_ipynb_file__": 5}, NOTHING, NOTHING, None),
}


@pytest.mark.parametrize("case", FOUND)
def test_paths_of_notebooks(case):
    """The path is what the server tells about this kernel, not what the kernel has inherited."""
    namespace, environ, of_parent, path = FOUND[case]
    assert notebook_path(namespace, environ, of_parent) == path


KERNEL = """
import sys, types
sys.modules["IPython"] = ipython = types.ModuleType("IPython")
shell = types.SimpleNamespace(kernel=object(), user_ns={})
ipython.get_ipython = lambda: shell
sys.modules["__main__"] = types.ModuleType("__main__")
from keepfit.callbacks.launch import process
import json
print(json.dumps([process.current().name, process.current().script]))
"""
SERVER = """
import os, subprocess, sys
command = [sys.executable, "-m", "kernel_launcher", "-f", "connection.json"]
for path in sys.argv[1:]:
    environment = os.environ if path == "-" else {**os.environ, "JPY_SESSION_NAME": path}
    subprocess.run(command, env=environment)
"""


def test_kernels_of_a_server(tmp_path):
    """Processes that are started as kernels: by a server, and by what runs within a notebook."""
    (tmp_path / "kernel_launcher.py").write_text(KERNEL)
    (tmp_path / "server.py").write_text(SERVER)
    environment = {k: v for k, v in os.environ.items() if k != "JPY_SESSION_NAME"}
    environment |= {"PYTHONPATH": str(ROOT / "src")}

    def names(*paths: str, **more: str) -> list[str | None]:
        ended = subprocess.run(
            [sys.executable, "server.py", *paths],
            cwd=tmp_path,
            env=environment | more,
            text=True,
            stdout=subprocess.PIPE,
        )
        found = [json.loads(line) for line in ended.stdout.splitlines()]
        assert all(script is None for _, script in found)
        return [name for name, _ in found]

    assert names("cats.ipynb", "a/dogs.ipynb", "-") == ["cats", "dogs", None]
    assert names("-", "dogs.ipynb", JPY_SESSION_NAME="cats.ipynb") == [None, "dogs"]
