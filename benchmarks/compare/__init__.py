"""keepfit beside what its users would pick instead, on the questions that decide."""
