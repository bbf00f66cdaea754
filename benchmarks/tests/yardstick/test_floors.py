"""The floors count the model's bytes and operations, and the ceilings are measured."""

from pathlib import Path

import pytest

from benchmarks.yardstick.floors import Ceilings, Weights, count_weights, generation_floor, measure_ceilings
from harness.bases.families import FAMILIES, VOCABULARY

CEILINGS = Ceilings(bandwidth=1000.0, float32=1e6, int8=4e6)
WEIGHTS = Weights(layers=900, head=100)


def test_a_decode_step_of_few_rows_takes_the_time_to_read_the_weights() -> None:
    one, two = (generation_floor(CEILINGS, WEIGHTS, requests=1, prompt=1, output=output) for output in (1, 2))
    assert two - one == pytest.approx(4 * 1000 / 1000.0)
    adapted = generation_floor(CEILINGS, WEIGHTS, requests=1, prompt=1, output=1, adapters=3, adapter_weights=50)
    assert adapted - one == pytest.approx(3 * 50 * 2 / 1000.0)
    assert generation_floor(CEILINGS, WEIGHTS, requests=1, prompt=1, output=1, form="int8") == pytest.approx(one / 4)


def test_a_long_prefill_takes_the_time_of_its_products_and_the_head_counts_once_a_request() -> None:
    seconds = generation_floor(CEILINGS, WEIGHTS, requests=2, prompt=5000, output=1)
    assert seconds == pytest.approx(2 * (900 * 10_000 + 100 * 2) / 1e6)


def test_a_tied_embedding_is_the_head_and_is_multiplied_once(tmp_path: Path) -> None:
    model = FAMILIES["llama"].make(tmp_path, {"tie_word_embeddings": True})
    embedding = VOCABULARY * model.config.hidden_size
    matrices = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 2)
    assert count_weights(tmp_path) == Weights(layers=matrices - embedding, head=embedding)


def test_an_embedding_beside_a_head_is_only_looked_up(tmp_path: Path) -> None:
    model = FAMILIES["llama"].make(tmp_path, {"tie_word_embeddings": False})
    embedding = VOCABULARY * model.config.hidden_size
    matrices = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 2)
    assert count_weights(tmp_path) == Weights(layers=matrices - 2 * embedding, head=embedding)


def test_the_ceilings_of_this_machine_are_measured() -> None:
    ceilings = measure_ceilings(mib=1, side=32)
    assert min(ceilings.bandwidth, *(ceilings.peak(form) for form in ("float32", "bfloat16", "int8"))) > 0
