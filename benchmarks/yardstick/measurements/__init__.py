"""What the yardstick measures, one file for each measurement."""
