"""A step waits for the device once, whatever its rows request: everything is computed first and fetched together."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from harness.adapters.artifacts import adapter_config, classifier_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import make_tiny_llama, tiny_shape
from harness.engine.sampling_rows import random_asking
from harness.engine.static_rig import CPU, fixed_storage, load_tiny
from headmix_adapters.artifact.parse import read_stored
from headmix_server.core.runner import Batch, BatchRow, Lease, RowFailed, RowResult
from headmix_server.core.types import ClassificationParams, EmbeddingParams, SamplingParams
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.outputs import ReadOut
from headmix_server.device.runner import TorchRunner
from headmix_server.kernels.sampling.choice import SamplingBackend
from headmix_server.kernels.sampling.plan import plan_choices
from headmix_server.kernels.sampling.reference import torch_choose

READING = frozenset(
    getattr(torch.Tensor, name)
    for name in ("tolist", "item", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__", "masked_select")
)
ANYTHING = SamplingParams(
    max_tokens=4, temperature=0.7, top_k=5, top_p=0.9, min_p=0.01, presence_penalty=0.5, repetition_penalty=1.2,
    logprobs=2, prompt_logprobs=True, seed=3,
)  # fmt: skip
ASKED: tuple[Any, ...] = (
    SamplingParams(max_tokens=4, temperature=0),
    SamplingParams(max_tokens=4, temperature=1.0, seed=9),
    ANYTHING,
    ClassificationParams(),
    EmbeddingParams(pooling="mean", normalize=True),
)


class Waits(TorchFunctionMode):
    """Stands in for a device's queue: counts operations that would wait, and refuses to read what was not fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cpu:
            self.count += 1
        elif func in READING:
            assert self.count, f"{func.__name__} reads numbers of the device before they are fetched"
        return func(*args, **(kwargs or {}))


def row(number: int, params: Any, lease: Lease | None = None, history: tuple[int, ...] = (5, 6, 7)) -> BatchRow:
    return BatchRow(number, 0, len(history), history, 2, [number], lease, samples=True, params=params)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TorchRunner:
    """Return a runner on the reference sampler, with an adapter that adds a token and one that classifies."""
    monkeypatch.setattr(
        "headmix_server.device.runner.choose_sampling", lambda device: SamplingBackend("torch", torch_choose)
    )
    make_tiny_llama(tmp_path, {"intermediate_size": 48})
    base = tiny_shape()
    memory = KVMemory(load_tiny(tmp_path).config, 8, 16, torch.float32)
    runner = TorchRunner(load_tiny(tmp_path), base, memory, fixed_storage(base, 2), CPU)
    adding = adapter_config(base, MIXED_SITES[0], added_tokens=("<a>",))
    labelling = adapter_config(base, MIXED_SITES[1], task="classification", classifier=classifier_config())
    for slot, config in enumerate((adding, labelling)):
        runner.install(
            slot, 1, from_stored(f"sha256:{slot}", read_stored(bytearray(pack(config, random_tensors(config, slot)))))
        )
    return runner


def run(runner: TorchRunner, monkeypatch: pytest.MonkeyPatch, *rows: BatchRow) -> int:
    """Run a step; return how often the host waited once the states had been computed."""
    waits, results = Waits(), ReadOut.results

    def counted(*args: Any) -> dict[int, RowResult]:
        with waits:
            return results(*args)

    with monkeypatch.context() as patch:
        patch.setattr(ReadOut, "results", counted)
        found = runner.run(Batch(rows))
    assert not [result for result in found if isinstance(result.result, RowFailed)]
    assert all(result.result is not None for result in found)
    return waits.count


@pytest.mark.parametrize("kinds", [range(len(ASKED)), *([kind] for kind in range(len(ASKED)))], ids=str)
def test_a_step_waits_once_whatever_its_rows_ask_for(
    runner: TorchRunner, kinds: Iterable[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = {3: Lease(1, 1, 1, "sha256:1")}
    assert run(runner, monkeypatch, *(row(number, ASKED[number], leases.get(number)) for number in kinds)) == 1


def test_so_does_one_with_tokens_that_adapters_add(runner: TorchRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    adding = row(6, ANYTHING, Lease(0, 1, 2, "sha256:0"), (5, 512, 7))
    assert run(runner, monkeypatch, adding, row(1, ANYTHING)) == 1


def test_the_reference_computes_without_looking_at_the_numbers() -> None:
    asked = random_asking(500, 12)
    plan = plan_choices(asked)
    with FakeTensorMode() as mode:  # its tensors have no numbers: shapes that depend on them would be refused
        fake = plan.with_tables(mode.from_tensor(table).to("meta") for table in plan.tables)
        for dtype in (torch.float32, torch.bfloat16):
            logits, added = torch.empty(12, 500, dtype=dtype, device="meta"), torch.empty(12, 2, device="meta")
            choices = torch_choose(logits, added, fake)
            assert choices.tokens.shape == (12,)
            assert choices.top_tokens.shape == (12, plan.alternatives)
            assert choices.tokens.device.type == choices.logprobs.device.type == "meta"
