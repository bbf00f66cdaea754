"""One inference request's life, from a parsed body to the deltas of its answer."""
