"""One adapter for each callback class of Keras: its state, its files and its private names."""
