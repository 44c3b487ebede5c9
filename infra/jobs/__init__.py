"""Jobs on AWS Batch: submitting, finding, following and ending them."""
