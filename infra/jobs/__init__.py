"""Jobs on AWS Batch: what is submitted, found again, followed and ended."""
