"""What only a GPU has: captured steps, static shapes, transfers."""
