"""S3 and compatible servers as a Store, by conditional writes."""
