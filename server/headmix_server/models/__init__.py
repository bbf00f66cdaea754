"""The base models: one shared block, thin families, weights."""
