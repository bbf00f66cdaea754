"""How good an adapter is, compared to its base and a linear classifier."""
