"""Packages of a job: resolved to wheels at submit, stored by content, installed in each attempt."""
