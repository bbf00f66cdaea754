"""The GPU benchmark's own logic, on a tiny base on the CPU."""

from typing import Any

import pytest
import torch

from benchmarks import cuda
from benchmarks.cuda import Step, measure_peft, measure_steps, prepare, rows_of, summarise
from harness.engine.static_rig import CPU, fixed_storage, static_decode
from headmix_adapters.config import BaseShape
from headmix_server.device.cuda.fixed_storage import FixedStorage
from headmix_server.device.cuda.static_decode import StaticDecode
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement
from headmix_server.models.model import Model

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "tie_word_embeddings": False,
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(cuda, "BATCHES", (1, 4))
    monkeypatch.setattr(cuda, "DISTINCT", 4)


def parts(
    model: Model, base: BaseShape, memory: KVMemory, arena_mib: int, placement: Placement
) -> tuple[FixedStorage, StaticDecode]:
    storage = fixed_storage(base, 4, capacity=arena_mib * 2**20 // 4, placement=placement)
    return storage, static_decode(model, storage, memory, memory.num_blocks - 1)


def test_every_batch_is_measured_with_and_without_adapters_against_what_it_must_read() -> None:
    subject = prepare(TINY, CPU, parts)
    assert subject.weight_bytes == 4 * sum(
        (32 * 64 + 32 * 64, 2 * (32 * 64 + 32 * 32 + 3 * 32 * 48 + 2 * 32), 32, -32 * 64)  # tables, layers, final norm
    )
    steps = measure_steps("tiny", subject, 1e9, CPU.device)
    assert [(step.rows, step.adapters) for step in steps] == [(1, 0), (1, 1), (4, 0), (4, 4)]
    assert steps[3].floor - steps[2].floor == pytest.approx(4 * subject.adapter_bytes / 1e9)
    assert steps[2].floor - steps[0].floor == pytest.approx(3 * subject.cache_bytes / 1e9)
    assert all(step.seconds > 0 for step in steps)


def test_rows_have_contexts_and_adapters_of_their_own() -> None:
    rows = rows_of(4, 4)
    assert {row.slot for row in rows} == {0, 1, 2, 3}
    assert len({block for row in rows for block in row.blocks}) == sum(len(row.blocks) for row in rows)
    assert {row.slot for row in rows_of(4, 0)} == {None}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_pefts_mixed_batch_is_measured_by_the_step() -> None:
    assert isinstance(measure_peft(TINY, CPU, rows=2, tokens=3), float)


def test_the_figures_compare_the_largest_batch_and_the_weakest_share() -> None:
    steps = [Step("x", 1, 0, 2.0, 1.0), Step("x", 1, 1, 2.0, 1.0), Step("x", 4, 0, 4.0, 3.0), Step("x", 4, 4, 5.0, 4.5)]
    assert summarise(steps, 50.0) == {
        "adapters_over_none": 1.25,
        "adapters_over_none_floor": 1.5,
        "least_share_of_bandwidth": 0.5,
        "over_peft_mixed": 10.0,
    }
    assert "over_peft_mixed" not in summarise(steps, None)
