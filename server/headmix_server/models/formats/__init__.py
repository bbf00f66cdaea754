"""How linear layers store their weights and multiply with them."""
