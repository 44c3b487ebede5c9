"""The submission of a job: options and job file are merged, checked as a plan, then executed."""
