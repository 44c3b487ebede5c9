"""The sources of notices that this machine will be taken away."""
