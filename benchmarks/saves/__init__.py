"""Measure how the time of a save is spent."""
