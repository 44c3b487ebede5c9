"""Kinds of values in a user's own callback or dataset: how each is frozen, checked and restored."""
