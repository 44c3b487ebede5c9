"""Reading and verifying checkpoints, files and whole runs."""
