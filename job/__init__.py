"""Runs a Keras script as a job: the `keepfit` command, logging, signals and exit codes."""
