"""Texts from a store or a server, for a log or a terminal, which must not obey them."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with an escape in place of each character that is not printable."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
