"""The checkpoint engine: from a snapshot in memory to a committed checkpoint, and back.

This package does not know Keras or TensorFlow: a snapshot consists of named buffers and a tree of
plain values.
"""
