"""A base's text side, read once for training, serving and conversion: its tokenizer and its chat template.

Importing it loads neither torch nor transformers.
"""
