"""The journal of each attempt, and the goodput of a run, which is computed from them."""
