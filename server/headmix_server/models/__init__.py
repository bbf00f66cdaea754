"""The base models: shared layers, small families, formats and loading."""
