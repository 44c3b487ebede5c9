"""Where the word comes from that this machine will go."""
