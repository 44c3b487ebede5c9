"""The AWS side: where runs are kept and machines come from."""
