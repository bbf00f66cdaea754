"""What a person at a terminal sees of a run, and Ctrl-C."""
