"""`headmix jobs`."""
