"""The adapters that read and restore each callback's state.

Only state is stored, never configuration: a patience that the user has changed since the last
attempt stays changed. A callback with `get_state()` and `set_state(state)` keeps its own state.
Keras' callbacks have neither method, so adapters in this package read and set their attributes. For
any other callback, the attributes that training has changed are its state.
"""
