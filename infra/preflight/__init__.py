"""Checks of quotas, networks and capacity before a job waits for machines that can't come."""
