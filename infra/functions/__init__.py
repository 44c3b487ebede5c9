"""What runs on AWS Lambda; each file is sent as it is, within a template."""
