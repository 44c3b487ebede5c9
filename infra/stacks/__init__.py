"""The two CloudFormation stacks: created by change sets, followed, described and deleted."""
