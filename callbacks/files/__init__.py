"""The files that callbacks write: their paths, their sizes, and their uploads to S3."""
