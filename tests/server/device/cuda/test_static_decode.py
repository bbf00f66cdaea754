"""Decode steps on fixed buffers give the ordinary path's answers, for any batch and installed adapters."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from structlog.testing import capture_logs
from torch.utils._python_dispatch import TorchDispatchMode

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.tiny_model import make_tiny_llama, tiny_shape
from harness.engine.static_rig import build_static_engine, fixed_storage, load_tiny, static_decode
from harness.exactness import compare, make_cases
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.base import resolve_base
from headmix_server.core.settings.settings import Settings
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.device.cuda import static_decode as static_decode_module
from headmix_server.device.cuda.fixed_storage import FixedStorage
from headmix_server.device.cuda.static_decode import StaticDecode
from headmix_server.device.cuda.static_step import DecodeRow, StaticStep, StepShape
from headmix_server.device.cuda.warm_up import warm_up
from headmix_server.device.kv_memory import KVMemory
from headmix_server.kernels.adapters.slot_span import SlotSpan
from headmix_server.kernels.attention.backend import TORCH
from headmix_server.kernels.attention.static import ReferenceStaticAttention
from headmix_server.kernels.attention.torch_sdpa import PagedAttention
from headmix_server.kernels.triton.needs import Launches
from headmix_server.models.model import Model
from tests.support.device.spans import Chunk, paged

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
BLOCK, BLOCKS = 4, 40


class Rig:
    """A tiny model with contexts it has cached itself, decoded on either path."""

    def __init__(self, folder: Path) -> None:
        make_tiny_llama(folder)
        self.model: Model = load_tiny(folder)
        self.storage: FixedStorage = fixed_storage(BASE, 4)
        self.memory = KVMemory(self.model.config, BLOCKS + 1, BLOCK, torch.float32)
        self.decode: StaticDecode = static_decode(self.model, self.storage, self.memory, BLOCKS)
        for keys, values in self.memory.layers:
            keys.normal_()
            values.normal_()

    def ordinary(self, rows: list[DecodeRow]) -> torch.Tensor:
        """Compute the batch on the path that any step can take."""
        chunks = [Chunk(row.position, 1, row.blocks) for row in rows]
        adapters = self.storage.step([SlotSpan(row.slot, at, 1) for at, row in enumerate(rows) if row.slot is not None])
        return self.model.forward(
            torch.tensor([row.token for row in rows]),
            torch.tensor([row.position for row in rows]),
            PagedAttention(self.memory.layers, *paged(chunks, BLOCK, BLOCKS + 1)),
            adapters,
        )

    def compare(self, rows: list[DecodeRow]) -> torch.Tensor:
        """Compute on both paths from the same cache and return the static path's states."""
        kept = [(keys.clone(), values.clone()) for keys, values in self.memory.layers]
        found = self.decode.forward(rows)
        assert found is not None
        written = [(keys.clone(), values.clone()) for keys, values in self.memory.layers]
        for (keys, values), (old_keys, old_values) in zip(self.memory.layers, kept, strict=True):
            keys.copy_(old_keys)
            values.copy_(old_values)
        torch.testing.assert_close(found, self.ordinary(rows), atol=1e-5, rtol=1e-5)
        for mine, reference in zip(written, self.memory.layers, strict=True):
            for tensor, expected in zip(mine, reference, strict=True):  # all but the scratch block
                torch.testing.assert_close(tensor[: BLOCKS * BLOCK], expected[: BLOCKS * BLOCK], atol=1e-5, rtol=1e-5)
        return found


def image(number: int, seed: int) -> AdapterImage:
    config = adapter_config(BASE, (*MIXED_SITES, MLP_SITES)[number])
    return from_stored("sha256:0", read_stored(bytearray(pack(config, random_tensors(config, seed, scale=0.3))))).image


def test_replays_agree_with_the_ordinary_path_while_batches_and_adapters_change(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.storage.put(0, image(0, 1))
    rig.storage.put(1, image(2, 2))
    three = [
        DecodeRow(7, 5, (3, 9), 0),
        DecodeRow(400, 0, (12,), None),
        DecodeRow(33, 11, (1, 2, 5), 1),
    ]
    first = rig.compare(three)
    assert rig.decode.num_ready == 1
    rig.storage.remove(0)
    rig.storage.put(0, image(3, 5))  # another adapter, other ranks, in the same slot of the same step
    second = rig.compare(three)
    assert rig.decode.num_ready == 1
    assert not torch.allclose(first[0], second[0], atol=1e-3)
    torch.testing.assert_close(first[1:], second[1:])
    rig.compare([three[1], three[0], DecodeRow(2, 9, (7, 8, 4), 1), DecodeRow(5, 2, (20,), 0)])
    assert rig.decode.num_ready == 1  # the same bucket, no padding
    rig.storage.put(2, image(5, 8))
    rig.compare([DecodeRow(9, 3, (30,), 2)])
    assert rig.decode.num_ready == 2  # one row, and the MLP's kernels too


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_reads_nothing_but_what_its_own_sequences_have_written(tmp_path: Path, poison: float) -> None:
    rig = Rig(tmp_path)
    rig.storage.put(0, image(0, 1))
    rows = [DecodeRow(7, 5, (3, 9), 0), DecodeRow(400, 0, (12,), None), DecodeRow(33, 10, (1, 2, 5), None)]
    written = {row.blocks[at // BLOCK] * BLOCK + at % BLOCK for row in rows for at in range(row.position)}
    elsewhere = [place for place in range((BLOCKS + 1) * BLOCK) if place not in written]  # the scratch block too
    found = []
    for content in (0.0, poison):
        for sides in rig.memory.layers:
            for side in sides:
                side[elsewhere] = content
        hidden = rig.decode.forward(rows)
        assert hidden is not None
        found.append(hidden.clone())
    assert found[0].isfinite().all()
    assert torch.equal(found[0], found[1])


class Recorder(TorchDispatchMode):
    """Records the name and the result's shape of every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, tuple[int, ...] | None]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((str(func), tuple(out.shape) if isinstance(out, torch.Tensor) else None))
        return out


def test_what_a_step_computes_does_not_depend_on_what_is_in_its_buffers(tmp_path: Path) -> None:
    rig = Rig(tmp_path)

    attention = ReferenceStaticAttention(rig.memory.layers, BLOCK, 4, 8)
    step = StaticStep(rig.model, rig.storage, attention, StepShape(4, 8, Launches.of([])), BLOCKS, torch.device("cpu"))
    recorded = []
    for rows in ([DecodeRow(7, 5, (3, 9), None)], [DecodeRow(1, 30, tuple(range(8)), None)] * 4):
        step.fill(rows)
        with Recorder() as recorder:
            step.compute()
        recorded.append(recorder.calls)
    assert recorded[0] == recorded[1]
    assert len(recorded[0]) > 20
    assert not any("_local_scalar_dense" in name for name, _ in recorded[0])  # nothing is read back to the host


def test_a_batch_larger_than_any_captured_step_is_left_to_the_ordinary_path(tmp_path: Path) -> None:
    decode = Rig(tmp_path).decode
    with capture_logs() as lines:
        assert decode.forward([DecodeRow(7, 0, (1,), None)] * 257) is None
        assert decode.forward([DecodeRow(7, 0, (1,), None)] * 300) is None
    assert [line["rows"] for line in lines] == [257]  # logged once, not at every step


def test_longer_contexts_are_captured_in_growing_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_decode_module, "FEWEST_POSITIONS", 16)
    rig = Rig(tmp_path)
    for position in (0, 3, 15, 20, 100, 127, 155):
        rig.compare([DecodeRow(7, position, tuple(range(position // BLOCK + 1)), None)])
    assert rig.decode.num_ready == 3  # of 16, 64 and 160 positions, as they were needed


@torch.inference_mode()
def test_after_the_warm_up_no_batch_of_attention_adapters_waits_for_a_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_decode_module, "FEWEST_POSITIONS", 16)
    rig = Rig(tmp_path)
    with capture_logs() as lines:
        warm_up(rig.model, rig.memory, rig.storage, rig.decode, TORCH, most_rows=5)
    ready = rig.decode.num_ready
    assert ready == 4 * 3 * 2 + 1  # rows, contexts, without adapters and with; and the MLP's kernels once
    assert [line["captured_steps"] for line in lines if line["event"] == "warmed up"] == [ready]
    rig.storage.put(0, image(0, 1))
    rig.storage.put(1, image(2, 2))
    for slots in ([None], [0], [0, 1], [1, 0, None], [0, None, 1, 0, 0]):
        for position in (3, 20, 100):
            apart = position // BLOCK + 1
            rows = [
                DecodeRow(7 + at, position if at == 0 else 1, tuple(range(apart)) if at == 0 else (apart + at,), slot)
                for at, slot in enumerate(slots)
            ]
            rig.compare(rows)
    assert rig.decode.num_ready == ready


def test_a_mixed_staggered_batch_with_static_decoding_answers_as_transformers(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    oracle = make_tiny_llama(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    settings = Settings(base="tiny", max_batch_tokens=40, adapter_slots=4, kv_cache_mib=1, block_size=4)
    engine, decode = build_static_engine(base, settings)
    cases = make_cases(base.shape, tmp_path, [], random_adapters=8, count=16)
    verdict = compare(engine, oracle, cases)
    engine.close()
    assert verdict.wrong == ()
    assert decode.num_ready >= 2
