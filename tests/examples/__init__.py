"""The programs in examples/, killed at random moments and compared with uninterrupted runs."""
