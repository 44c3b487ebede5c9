"""The source of the Lambda functions; each file is embedded in a template."""
