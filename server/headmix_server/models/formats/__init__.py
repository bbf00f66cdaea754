"""How a linear layer keeps its weights, and how it multiplies with them."""
