"""IAM: the policies of the templates, what AWS documents of their actions, and their evaluation."""
