"""S3 and its likes as a Store: what the protocol asks for, by conditional writes."""
