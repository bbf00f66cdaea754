"""What to train: the recipe, its file, and the one made from options."""
