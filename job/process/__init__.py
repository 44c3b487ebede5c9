"""The process of an attempt: the program that it executes, and the attempts after it."""
