import pytest
import torch

from headmix_server.device.kv_memory import KVMemory, block_bytes
from headmix_server.models.config import ModelConfig

CONFIG = ModelConfig(
    model_type="llama",
    hidden_size=32,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    vocab_size=50,
    max_positions=64,
    eos_ids=frozenset(),
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_costs_what_is_allocated_for_it(dtype: torch.dtype) -> None:
    memory = KVMemory(CONFIG, num_blocks=5, block_size=4, dtype=dtype)
    taken = sum(states.nbytes for layer in memory.layers for states in layer)
    assert taken == 5 * block_bytes(CONFIG, 4, dtype)


def test_every_layer_has_zeroed_keys_and_values_of_its_own() -> None:
    memory = KVMemory(CONFIG, num_blocks=5, block_size=4, dtype=torch.float32)
    places = {states.data_ptr() for layer in memory.layers for states in layer}
    assert len(places) == 2 * CONFIG.num_layers
    for keys, values in memory.layers:
        assert keys.shape == values.shape == (memory.num_blocks * memory.block_size, 2, 8)
        assert not keys.any()
        assert not values.any()
