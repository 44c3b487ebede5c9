"""What a running `fit` consists of, and how each part is captured and put back."""
