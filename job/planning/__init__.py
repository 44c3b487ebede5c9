"""Estimate the useful time with each interval between saves, from recorded lifetimes."""
