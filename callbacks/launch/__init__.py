"""The launch of this process: its script and arguments, and the run name that follows from them."""
