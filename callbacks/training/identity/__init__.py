"""The identity of a `fit`, by which a later attempt recognises it: its input and settings."""
