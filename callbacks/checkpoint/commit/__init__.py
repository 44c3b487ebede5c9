"""Claiming a run and committing to it; what is not part of a commit is done beside it."""
