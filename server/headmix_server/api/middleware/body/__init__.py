"""A request's body: how much of it may arrive, and how it is parsed."""
