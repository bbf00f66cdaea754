"""What every base has: its dimensions, and the error that says why a checkpoint is refused.

The fields of config.json are read by the families through `config_reader`; only what the rest of the program needs to
know is here.
"""

from dataclasses import dataclass


class UnsupportedModelError(Exception):
    """The checkpoint asks for something this code does not do."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The dimensions of a base. `max_positions` is the longest sequence its positions are defined for."""

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    eos_ids: frozenset[int]
