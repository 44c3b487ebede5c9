"""The commands about jobs on AWS Batch."""
