"""Weights as a checkpoint stores them, and products with them."""
