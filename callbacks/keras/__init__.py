"""The public callbacks: Resumable, and Keras' callbacks that can also write to S3."""
