"""What happened in a run, step by step: its events, their files, and when a loss means that training has failed."""
