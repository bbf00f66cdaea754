"""How good an adapter is, beside its base and a linear classifier."""
