"""What the server takes hold of at start: its folder, its database's lease, its base's record."""
