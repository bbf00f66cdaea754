"""A base's tokenizer and chat template, with one reader for training, serving and conversion.

Importing it loads neither torch nor transformers.
"""
