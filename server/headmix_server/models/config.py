"""What every base has: its dimensions, and the error that gives the reason why a checkpoint is refused.

The families read the fields of config.json through `config_reader`; only what the rest of the program needs is here.
"""

from dataclasses import dataclass


class UnsupportedModelError(Exception):
    """The checkpoint requires something that is not supported."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The dimensions of a base. `max_positions` is the longest sequence for which its positions are defined."""

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    eos_ids: frozenset[int]
