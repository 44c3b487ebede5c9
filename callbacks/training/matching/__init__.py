"""Match a checkpoint's variables with a model's, and report differences, without TensorFlow."""
