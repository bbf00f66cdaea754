"""What an unfinished run keeps, and how often."""
