"""The sizes that an engine is built with."""

from dataclasses import dataclass

UNBOUNDED = 1 << 60
"""More bytes than any machine has."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """See `core.settings` for the meaning of the fields.

    `whole_prompts` is for encoders: a prompt is computed in one step or not at all, and nothing is generated.
    """

    max_model_len: int
    kv_blocks: int
    block_size: int
    max_batch_tokens: int
    max_running: int
    max_waiting: int
    adapter_slots: int
    host_adapters: int
    loader_threads: int
    eos_ids: frozenset[int]
    whole_prompts: bool = False
    prefix_cache: bool = True
    device_adapter_bytes: int = UNBOUNDED
    host_adapter_bytes: int = UNBOUNDED
    speculative_tokens: int = 0

    @property
    def longest(self) -> int:
        """The most tokens one sequence may have, prompt and output together."""
        limit = min(self.max_model_len, self.kv_blocks * self.block_size)
        return min(limit, self.max_batch_tokens) if self.whole_prompts else limit
