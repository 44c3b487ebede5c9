"""What is the same training: pure comparisons of runs and fits, without Keras and the store."""
