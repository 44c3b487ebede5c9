"""The journals of attempts, and the goodput of a run."""
