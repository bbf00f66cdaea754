"""What the yardstick measures, one file per measurement."""
