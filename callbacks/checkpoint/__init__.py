"""The checkpoint engine: from a snapshot in memory to a committed checkpoint, and back.

Nothing here knows Keras or TensorFlow: a snapshot is named buffers and a tree of plain values.
"""
