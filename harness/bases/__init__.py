"""Tiny bases on disk: folders of every family, tokenizers of every kind, random weights."""
