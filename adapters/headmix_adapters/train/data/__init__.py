"""From a file to training examples."""
