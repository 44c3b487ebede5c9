"""The identity of a `fit`, from what the script has given to it."""
