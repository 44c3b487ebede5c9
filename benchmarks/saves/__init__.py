"""Where the time of a save goes."""
