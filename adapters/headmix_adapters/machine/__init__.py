"""The machine's resources that this process may use: cores, memory, threads."""
