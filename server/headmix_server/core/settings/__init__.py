"""The server's settings: their values, names and groups."""
