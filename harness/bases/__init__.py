"""Tiny bases on disk: folders for every family, tokenizers of every kind, random weights."""
