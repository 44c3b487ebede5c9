"""`--notify URL`: a POST when an attempt resumes, stalls or ends, and the log line `stalled`."""
