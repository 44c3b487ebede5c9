"""The two stacks of CloudFormation: made by change sets, watched, described and deleted."""
