"""Prompts of random token ids; the same seed gives the same prompt."""

import torch


def random_prompt(length: int, vocab_size: int, seed: int) -> list[int]:
    """Return random token ids, never the first few, which are special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(20, vocab_size, (length,), generator=generator).tolist()
