"""What is the same training: comparisons of runs and fits, without Keras and the store."""
