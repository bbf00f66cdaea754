"""What a tokenizer's ids represent: the base's own tokens, and those an adapter adds."""
