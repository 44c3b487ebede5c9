"""Notifications of `keepfit run --notify`, without TensorFlow."""
