"""What the server claims at startup: its folder, its database's lease, its base's record."""
