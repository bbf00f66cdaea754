"""Whether a data file can be trained on, told before anything is trained: every fault with its line."""
