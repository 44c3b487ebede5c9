"""pip, with the environment markers of the image: `python -m` starts it in a process of its own.

pip's options for another platform choose wheels by their tags, but it evaluates markers such as
`sys_platform == "linux"` for the Python that runs it. So a requirement would be left out, or asked
for in vain, where `keepfit submit` runs on macOS or on another version of Python.
"""

from __future__ import annotations

import importlib
import sys

from keepfit.job.requirements.target import MARKERS


def main() -> int:
    """Run pip's command line."""
    markers = importlib.import_module("pip._vendor.packaging.markers")
    if not hasattr(markers, "default_environment"):
        print("ERROR: this version of pip can't resolve for another platform", file=sys.stderr)  # noqa: T201 # as pip reports its own errors
        return 1
    vars(markers)["default_environment"] = lambda: dict(MARKERS)
    pip = importlib.import_module("pip._internal.cli.main")
    return int(pip.main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
