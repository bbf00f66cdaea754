"""Accounting of the key/value cache: blocks, which sequences hold them, and which are shared."""
