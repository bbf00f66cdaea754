"""What only a GPU can show: compiled kernels, captured graphs and copies on a stream, against the same on the CPU."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from benchmarks.exactness import compare, make_cases
from headmix_adapters.artifact.stored import read_stored
from headmix_adapters.base import resolve_base
from headmix_server.core.settings import Settings
from headmix_server.device.adapter_files import from_stored
from headmix_server.device.adapter_image import AdapterImage
from headmix_server.device.cuda_parts import make_cuda_decode, make_cuda_storage
from headmix_server.device.fixed_storage import FixedStorage
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement
from headmix_server.device.static_step import DecodeRow
from headmix_server.engine.loop import Engine
from headmix_server.models.registry import load_model
from headmix_server.worker import build_runner
from tests.support.adapters import MIXED_SITES, MLP_SITES
from tests.support.artifacts import adapter_config, pack, random_tensors
from tests.support.static_rig import fixed_storage
from tests.support.step_adapters import StepBatch, added, random_batch
from tests.support.tiny_model import make_tiny_llama, tiny_shape

pytestmark = pytest.mark.gpu
BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
SITES = (*MIXED_SITES, MLP_SITES)
SPANS = [(0, 0, 1), (1, 1, 90), (2, 91, 1), (3, 93, 3), (4, 96, 1), (5, 97, 1)]  # row 92: base


def gpu(dtype: torch.dtype) -> Placement:
    return Placement(torch.device("cuda", torch.cuda.current_device()), dtype)


def image(number: int, seed: int) -> AdapterImage:
    config = adapter_config(BASE, SITES[number])
    return from_stored("sha256:0", read_stored(bytearray(pack(config, random_tensors(config, seed, scale=0.3))))).image


def fill(storage: FixedStorage, seed: int = 0) -> None:
    for slot in range(len(SITES)):
        storage.put(slot, storage.prepare(image(slot, slot + seed)))


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


def test_a_captured_step_serves_adapters_that_were_installed_after_it(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    placement = gpu(torch.float32)
    model = load_model(tmp_path, placement.dtype, device=placement.device)
    storage = make_cuda_storage(BASE, 8, 8, 32, placement)
    memory = KVMemory(model.config, 41, 4, placement.dtype, placement.device)
    decode = make_cuda_decode(model, storage, memory, 64, None)
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
