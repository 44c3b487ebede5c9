"""The engine of a run: notices, when to save, the writer's thread, and the claim of the run.

This package does not know Keras' callbacks or models: it moves snapshots to the store.
"""
