"""The process of a drill that runs the script: it records the training, and kills itself."""
