"""Every tensor is on the model's device: proved without a GPU, by torch's own device bookkeeping."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from harness.adapters.artifacts import adapter_config, classifier_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.families import FAMILIES
from harness.bases.tiny_model import make_tiny_llama, tiny_shape
from harness.engine.static_rig import CPU, fixed_storage, load_tiny
from headmix_adapters.artifact.parse import read_stored
from headmix_server.core.runner import Batch, BatchRow, Lease, RowFailed
from headmix_server.core.types import ClassificationParams, EmbeddingParams, SamplingParams
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.cuda.static_step import DecodeRow, StaticStep, StepShape
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement
from headmix_server.device.runner import TorchRunner
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_tables import ImageTables
from headmix_server.kernels.adapters.row_tiles import RowTiles
from headmix_server.kernels.attention.static import ReferenceStaticAttention
from headmix_server.kernels.triton.needs import Launches
from headmix_server.models.loading.registry import load_model

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
ELSEWHERE = Placement(torch.device("meta"), torch.bfloat16)
"""Not the CPU: torch refuses to mix the two, and to read numbers back from a meta device."""
FACTORIES = frozenset(
    {torch.tensor, torch.arange, torch.zeros, torch.ones, torch.empty, torch.full, torch.rand, torch.randn}
)


class ExplicitDevices(TorchFunctionMode):
    """Refuses to create a tensor without an explicit device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES and "device" not in kwargs:
            raise AssertionError(f"{func.__name__}{args} without a device")
        return func(*args, **kwargs)


def row(number: int, start: int, history: list[int], **changes: Any) -> BatchRow:
    fields: dict[str, Any] = {
        "sequence_id": number,
        "start": start,
        "count": len(history) - start,
        "history": history,
        "prompt_length": 2,
        "blocks": [number],
        "lease": None,
        "samples": True,
        "params": ClassificationParams(),
    }
    return BatchRow(**(fields | changes))


def test_a_step_of_every_kind_of_row_says_for_each_tensor_where_it_belongs(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    storage = fixed_storage(BASE, 2)
    memory = KVMemory(load_tiny(tmp_path).config, 8, 16, torch.float32)
    runner = TorchRunner(load_tiny(tmp_path), BASE, memory, storage, CPU)
    adding = adapter_config(BASE, MIXED_SITES[0], added_tokens=("<a>",))
    labelling = adapter_config(BASE, MIXED_SITES[1], task="classification", classifier=classifier_config())
    for slot, config in enumerate((adding, labelling)):
        content = bytearray(pack(config, random_tensors(config, slot)))
        runner.install(slot, 1, from_stored(f"sha256:{slot}", read_stored(content)))
    wild = SamplingParams(
        max_tokens=4, temperature=0.7, top_k=5, top_p=0.9, min_p=0.01, presence_penalty=0.5, repetition_penalty=1.2,
        logprobs=2, prompt_logprobs=True, seed=3,
    )  # fmt: skip
    rows = (
        row(0, 0, [5, 6, 7], params=wild),
        row(1, 0, [5, 512, 7], params=wild, lease=Lease(0, 1, 1, "sha256:0")),
        row(2, 0, [8, 9], lease=Lease(1, 1, 2, "sha256:1")),
        row(3, 0, [8, 9], params=EmbeddingParams(pooling="mean", normalize=True)),
    )
    with ExplicitDevices():
        results = runner.run(Batch(rows))
    assert not [result for result in results if isinstance(result.result, RowFailed)]
    assert all(result.result is not None for result in results)


class SameDevice:
    """Stands in for the kernels: adapters that check where everything is."""

    def __init__(
        self, tables: ImageTables, tiles: RowTiles, z: torch.Tensor, launches: Launches, added: AddedInputs | None
    ) -> None:
        self._tensors = [tables.f32, tables.bf16, tables.offsets, tables.ranks, tables.scales, tiles.rows, tiles.slots]
        self._tensors += [tiles.starts, z]
        self._added = added
        self.layers = 0

    def _check(self, *tensors: torch.Tensor) -> None:
        for tensor in (*self._tensors, *tensors):
            assert tensor.device == ELSEWHERE.device
        for tensor in tensors:
            assert tensor.dtype == ELSEWHERE.dtype
            assert tensor.is_contiguous()

    def replace_embeddings(self, embeddings: torch.Tensor) -> None:
        self._check(embeddings)

    def add_qkv(self, layer: int, x: torch.Tensor, qkv: torch.Tensor) -> None:
        self.layers += 1
        self._check(x, qkv)

    def add_o(self, layer: int, attention: torch.Tensor, out: torch.Tensor) -> None:
        self._check(attention, out)

    def add_gate_up(self, layer: int, x: torch.Tensor, gate_up: torch.Tensor) -> None:
        self._check(x, gate_up)

    def add_down(self, layer: int, inner: torch.Tensor, out: torch.Tensor) -> None:
        self._check(inner, out)


@pytest.fixture
def fake_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make checkpoints load without their numbers, which fake tensors cannot use."""

    def load_shapes(path: Path) -> dict[str, torch.Tensor]:
        with torch._subclasses.fake_tensor.unset_fake_temporarily():
            real = load_file(path)
        return {name: torch.empty(t.shape, dtype=t.dtype, device="cpu") for name, t in real.items()}

    monkeypatch.setattr("headmix_server.models.loading.weights.load_file", load_shapes)


@pytest.mark.usefixtures("fake_checkpoint")
@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.causal])
def test_a_captured_step_mixes_no_devices_and_reads_nothing_back(family: str, tmp_path: Path) -> None:
    FAMILIES[family].make(tmp_path, {})
    with FakeTensorMode():
        model = load_model(tmp_path, ELSEWHERE.dtype, device=ELSEWHERE.device)
        shape = msgspec.structs.replace(
            BASE,
            hidden_size=model.config.hidden_size,
            num_heads=model.config.num_heads,
            num_kv_heads=model.config.num_kv_heads,
            head_dim=model.config.head_dim,
            num_layers=model.config.num_layers,
        )
        storage = fixed_storage(shape, 2, placement=ELSEWHERE)
        storage._make_step = SameDevice
        memory = KVMemory(model.config, 9, 4, ELSEWHERE.dtype, ELSEWHERE.device)
        attention = ReferenceStaticAttention(memory.layers, 4, 4, 8)
        everything = Launches.every()
        step = StaticStep(model, storage, attention, StepShape(4, 8, everything), 8, ELSEWHERE.device)
        step.fill([DecodeRow(7, 5, (3, 5), 0), DecodeRow(9, 0, (1,), None)])
        step.compute()
        assert step.hidden is not None
        assert step.hidden.device == ELSEWHERE.device
        assert model.logits(step.hidden).device == ELSEWHERE.device
        assert step._adapters.layers == model.config.num_layers  # type: ignore[union-attr]
