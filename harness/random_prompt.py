"""Prompts of random token ids, the same for a seed."""

import torch


def random_prompt(length: int, vocab_size: int, seed: int) -> list[int]:
    """Return random token ids, never the first few, where special tokens live."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(20, vocab_size, (length,), generator=generator).tolist()
