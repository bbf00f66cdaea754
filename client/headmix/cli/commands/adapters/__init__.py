"""`headmix adapters`."""
