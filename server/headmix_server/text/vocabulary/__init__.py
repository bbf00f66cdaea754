"""What a tokenizer's ids stand for, the base's and an adapter's own."""
