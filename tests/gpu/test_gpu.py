"""What can only be tested on a GPU: compiled kernels, captured graphs and stream copies, compared with the CPU."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.tiny_model import make_tiny_llama, tiny_shape
from harness.engine.static_rig import fixed_storage
from harness.exactness import compare, make_cases
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.base import resolve_base
from headmix_server.core.settings.settings import Settings
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.device.cuda.build import make_cuda_decode, make_cuda_storage
from headmix_server.device.cuda.fixed_storage import FixedStorage
from headmix_server.device.cuda.static_step import DecodeRow
from headmix_server.device.cuda.transfer import StreamTransfer
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement
from headmix_server.engine.loop import Engine
from headmix_server.kernels import row_ops
from headmix_server.kernels.adapters.slot_span import SlotSpan
from headmix_server.kernels.attention.static import ReferenceStaticAttention
from headmix_server.kernels.row_ops import choose_row_ops
from headmix_server.models.loading.registry import load_model
from headmix_server.worker import build_runner
from tests.support.device.step_adapters import StepBatch, added, random_batch

TritonDecodeAttention = pytest.importorskip(
    "headmix_server.kernels.triton.decode_attention", reason="Triton is not installed"
).TritonDecodeAttention

pytestmark = pytest.mark.gpu
BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
SITES = (*MIXED_SITES, MLP_SITES)
SPANS = [
    SlotSpan(*span) for span in ((0, 0, 1), (1, 1, 90), (2, 91, 1), (3, 93, 3), (4, 96, 1), (5, 97, 1))
]  # row 92: base


def gpu(dtype: torch.dtype) -> Placement:
    return Placement(torch.device("cuda", torch.cuda.current_device()), dtype)


def image(number: int, seed: int) -> AdapterImage:
    config = adapter_config(BASE, SITES[number])
    return from_stored("sha256:0", read_stored(bytearray(pack(config, random_tensors(config, seed, scale=0.3))))).image


def fill(storage: FixedStorage, seed: int = 0) -> None:
    for slot in range(len(SITES)):
        storage.put(slot, storage.stage(image(slot, slot + seed)))


def moved(batch: StepBatch, placement: Placement) -> StepBatch:
    return StepBatch(*(getattr(batch, n).to(placement.device, placement.dtype) for n in StepBatch.__slots__))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_the_compiled_kernels_add_what_the_reference_adds(dtype: torch.dtype, error: float) -> None:
    placement = gpu(dtype)
    storage = make_cuda_storage(BASE, 8, 8, 32, placement)
    reference = fixed_storage(BASE, 8, placement=Placement(torch.device("cpu"), dtype))
    fill(storage)
    fill(reference)
    batch = moved(random_batch(BASE, tokens=98, seed=1), Placement(torch.device("cpu"), dtype))
    for layer in range(BASE.num_layers):
        step, expected = storage.step(SPANS), reference.step(SPANS)
        assert step is not None
        assert expected is not None
        wanted = added(expected, batch, layer)
        for name, found in added(step, moved(batch, placement), layer).items():
            torch.testing.assert_close(found.cpu(), wanted[name], rtol=error, atol=error)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_the_compiled_row_operations_are_torch_s(dtype: torch.dtype, error: float) -> None:
    torch.manual_seed(0)
    placement = gpu(dtype)
    ops = choose_row_ops(placement.device, dtype)
    assert ops.name == "triton"
    for rows, heads, width in ((1, 12, 64), (70, 3, 100), (5, 1, 576)):
        states, weight = torch.randn(rows, heads + 2, width), torch.randn(width)
        gate_up, angles = torch.randn(rows, 2 * width), (torch.randn(rows, 1, width), torch.randn(rows, 1, width))
        moved_states, moved_weight, moved_gate, cos, sin = (
            part.to(placement.device, dtype) for part in (states, weight, gate_up, *angles)
        )
        pairs = (
            (
                ops.rms_norm(moved_states[:, :heads], moved_weight, 1e-5),
                row_ops.rms_norm(states[:, :heads], weight, 1e-5),
            ),
            (ops.gated_silu(moved_gate), row_ops.gated_silu(gate_up.clone())),
            (ops.rotate(moved_states[:, 1:], (cos, sin)), row_ops.rotate(states[:, 1:], angles)),
        )
        for found, wanted in pairs:
            assert found.dtype == dtype
            assert float((found.cpu().float() - wanted).norm() / wanted.norm()) < error


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize(("heads", "groups", "size"), [(32, 8, 64), (9, 3, 64), (4, 1, 256), (8, 8, 128)])
def test_compiled_decode_attention_reads_its_own_context_alone(
    heads: int, groups: int, size: int, window: int | None, dtype: torch.dtype, error: float
) -> None:
    torch.manual_seed(0)
    positions, width, block = [0, 15, 16, 900, 333], 64, 16
    order = torch.randperm(5 * width).view(5, width).tolist()
    table = [own[: position // block + 1] for own, position in zip(order, positions, strict=True)]
    caches = [torch.full((5 * width * block, groups, size), float("nan")) for _ in range(2)]
    for position, own in zip(positions, table, strict=True):
        places = [own[at // block] * block + at % block for at in range(position)]
        for cache in caches:
            cache[places] = torch.randn(position, groups, size)
    states = torch.randn(5, heads + 2 * groups, size)
    on_gpu = (caches[0].to("cuda", dtype), caches[1].to("cuda", dtype))
    finite = (caches[0].to(dtype).float().nan_to_num(), caches[1].to(dtype).float().nan_to_num())
    expected = ReferenceStaticAttention([finite], block, 5, width)
    found = TritonDecodeAttention([on_gpu], block, 5, width)
    outs = []
    for attention, own in ((found, states.to("cuda", dtype)), (expected, states.to(dtype).float())):
        q, k, v = torch.split(own, [heads, groups, groups], dim=1)
        attention.fill(positions, table)
        attention.begin()
        outs.append(attention.attend(0, q, k, v, scale=size**-0.5, window=window).cpu().float())
    assert float((outs[0] - outs[1]).norm() / outs[1].norm()) < error


def test_a_captured_step_serves_adapters_that_were_installed_after_it(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    placement = gpu(torch.float32)
    model = load_model(tmp_path, placement.dtype, device=placement.device)
    storage = make_cuda_storage(BASE, 8, 8, 32, placement)
    memory = KVMemory(model.config, 41, 4, placement.dtype, placement.device)
    decode = make_cuda_decode(model, storage, memory, 64)
    rows = [DecodeRow(7, 5, (3, 9), 0), DecodeRow(400, 0, (12,), None), DecodeRow(33, 11, (1, 2, 5), 5)]

    @torch.inference_mode()
    def run(seed: int) -> torch.Tensor:
        for slot in range(len(SITES)):
            storage.remove(slot)
        fill(storage, seed)
        found = decode.forward(rows)
        assert found is not None
        return found.clone()

    first, second, again = run(0), run(50), run(0)
    assert decode.num_ready == 1
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first[0], second[0], atol=1e-3)
    torch.testing.assert_close(first[1], second[1])


def test_adapters_are_staged_and_copied_while_a_step_is_captured(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    placement = gpu(torch.float32)
    model = load_model(tmp_path, placement.dtype, device=placement.device)
    storage = make_cuda_storage(BASE, 8, 8, 32, placement)
    memory = KVMemory(model.config, 41, 4, placement.dtype, placement.device)
    decode = make_cuda_decode(model, storage, memory, 64)
    over = threading.Event()

    def copy(staged: torch.Tensor) -> None:
        staged.to(placement.device, non_blocking=True)

    def load() -> None:
        transfer, size = StreamTransfer(placement.device), 1
        while not over.is_set():
            size = size % 2**22 * 2 + 1  # always new sizes, since torch keeps pinned memory once allocated
            staged = transfer.stage(torch.ones(size))
            transfer.start(partial(copy, staged))

    with ThreadPoolExecutor(1) as pool, torch.inference_mode():
        loading = pool.submit(load)
        try:
            for rows in (1, 2, 3, 5, 9, 17):
                assert decode.forward([DecodeRow(7, 5, (3, 9), None)] * rows) is not None
                torch.cuda.synchronize()
        finally:
            over.set()
        loading.result()
    assert decode.num_ready == 6


def test_the_engine_on_the_gpu_answers_as_transformers(tmp_path: Path) -> None:
    oracle = make_tiny_llama(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    options: dict[str, Any] = {"device": "cuda", "dtype": "float32", "kv_cache_mib": 64, "adapter_memory_mib": 64}
    settings = Settings(base="tiny", max_batch_tokens=40, adapter_slots=4, block_size=16, **options)
    engine = Engine(*build_runner(settings, base))
    cases = make_cases(base.shape, tmp_path, [], random_adapters=8, count=16)
    torch.backends.cuda.matmul.allow_tf32 = False
    verdict = compare(engine, oracle, cases)
    engine.close()
    assert verdict.wrong == ()
