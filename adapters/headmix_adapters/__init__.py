"""Kernel-mix adapters: their configs, file format, mathematics and training.

The package knows nothing about serving. Importing it does not load torch; the modules that need torch import it.
"""
