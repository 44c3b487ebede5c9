"""A process that races others for one key: `python -m tests.storage.racer URI KEY NAME TURNS`.

It first swaps `KEY` once for each line on stdin, which contains the expected version, and prints
whether it won; then it adds one to `KEY`.count by compare-and-swap until it has won `TURNS` times.
"""

import sys

from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import Conflict, NotFound


def main(uri, key, name, turns):
    store = open_store(uri)
    report("ready")
    for number, line in enumerate(sys.stdin):
        try:
            store.swap(key, f"{number} {name}".encode(), expected=line.strip() or None)
        except Conflict:
            report("lost")
        else:
            report("won")
    for _ in range(int(turns)):
        while not add_one(store, f"{key}.count"):
            pass


def add_one(store, key):
    """Add one to the number in `key`; return False if another process was faster."""
    try:
        content, version = store.load(key)
    except NotFound:
        content, version = b"0", None
    try:
        store.swap(key, str(int(content) + 1).encode(), expected=version)
    except Conflict:
        return False
    return True


def report(text):
    print(text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
