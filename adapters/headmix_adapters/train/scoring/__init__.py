"""How good an adapter is, next to its base and a linear classifier."""
