"""The drill: a script is killed on purpose, and its result compared with an uninterrupted run."""
