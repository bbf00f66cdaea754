"""The key/value cache's accounts: blocks, who holds them, and which are shared."""
