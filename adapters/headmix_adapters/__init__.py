"""Kernel-mix adapters: their configs, file format, mathematics and training.

The package knows nothing of serving. Importing it loads no torch; the modules that need torch import it themselves.
"""
