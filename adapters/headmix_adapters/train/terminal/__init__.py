"""What a run shows on a terminal, and how it handles Ctrl-C."""
