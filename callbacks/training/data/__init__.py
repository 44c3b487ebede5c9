"""The position in the input data, and how it is captured and restored."""
