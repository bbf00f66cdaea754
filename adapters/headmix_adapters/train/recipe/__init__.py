"""What to train: the recipe, its file, and recipes made from command-line options."""
