"""The parts of a running `fit`, and how each of them is captured and restored."""
