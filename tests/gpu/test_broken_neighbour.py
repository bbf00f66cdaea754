"""On a GPU too, non-finite numbers stay in their own sequence: not even masked ones reach another.

Positions that were never written, other sequences' positions and an overflowing adapter hold NaN or infinities; all
other sequences must get the same bits as without them.
"""

import math
from pathlib import Path

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.tiny_model import make_tiny_llama, tiny_shape
from headmix_adapters.artifact.parse import read_stored
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.device.cuda.build import attention_backend, find_flashinfer, make_cuda_decode, make_cuda_storage
from headmix_server.device.cuda.fixed_storage import FixedStorage
from headmix_server.device.cuda.static_step import DecodeRow
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement
from headmix_server.kernels.attention.static import ReferenceStaticAttention, StaticAttention
from headmix_server.models.loading.registry import load_model
from tests.support.device.spans import Chunk, paged

TritonDecodeAttention = pytest.importorskip(
    "headmix_server.kernels.triton.decode_attention", reason="Triton is not installed"
).TritonDecodeAttention

pytestmark = pytest.mark.gpu
BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
SITES = (*MIXED_SITES, MLP_SITES)
HEADS, GROUPS, HEAD, PAGE, PAGES = 8, 2, 64, 16, 16
HUGE = 1.7e38
"""Finite in bfloat16 and float32; the product of two such numbers is not."""

MIXED = (Chunk(5, 1, (3, 7)), Chunk(0, 6, (1, 2)), Chunk(33, 1, (9, 4, 11)), Chunk(20, 70, (5, 8, 10, 12, 14, 6)))
SINGLE = (Chunk(5, 1, (3, 7)), Chunk(0, 1, (1,)), Chunk(33, 1, (9, 4, 11)), Chunk(31, 1, (5, 8)))
"""Block ends that were never written; block 0 belongs to no sequence."""

Caches = list[tuple[torch.Tensor, torch.Tensor]]


def gpu(dtype: torch.dtype) -> Placement:
    return Placement(torch.device("cuda", torch.cuda.current_device()), dtype)


def image(number: int, *, huge: bool = False) -> AdapterImage:
    config = adapter_config(BASE, SITES[number])
    tensors = random_tensors(config, number, scale=0.3)
    if huge:
        tensors = {name: torch.full_like(tensor, HUGE) for name, tensor in tensors.items()}
    return from_stored("sha256:0", read_stored(bytearray(pack(config, tensors)))).image


def fill(storage: FixedStorage, hostile: int | None) -> None:
    for slot in range(len(SITES)):
        storage.put(slot, storage.stage(image(slot, huge=slot == hostile)))


def attend(
    path: str, dtype: torch.dtype, caches: Caches, states: tuple[torch.Tensor, ...], window: int | None
) -> torch.Tensor:
    """Attend on one of the GPU's paths: ragged steps, then steps of fixed shape."""
    chunks = MIXED if path in ("torch", "flashinfer") else SINGLE
    found = find_flashinfer(HEAD, gpu(dtype)) if path == "flashinfer" else None
    if path == "flashinfer" and found is None:
        pytest.skip("FlashInfer is not installed, or has no kernels for this type")
    q, k, v = states
    if path in ("torch", "flashinfer"):
        step = attention_backend(found).paged(caches, *paged(chunks, PAGE, PAGES))
        return step.attend(0, q, k, v, scale=0.1, window=window)
    made = {"triton": TritonDecodeAttention, "gather": ReferenceStaticAttention}[path]
    attention: StaticAttention = made(caches, PAGE, len(chunks), 8)
    attention.fill([chunk.start for chunk in chunks], [chunk.blocks for chunk in chunks])
    attention.begin()
    return attention.attend(0, q, k, v, scale=0.1, window=window)


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("path", ["torch", "flashinfer", "triton", "gather"])
@torch.inference_mode()
def test_attention_reads_nothing_but_what_its_own_sequences_have_written(
    path: str, dtype: torch.dtype, poison: float, window: int | None
) -> None:
    chunks = MIXED if path in ("torch", "flashinfer") else SINGLE
    layout, table = paged(chunks, PAGE, PAGES)
    written = torch.cat([table.places(i, chunk.start) for i, chunk in enumerate(chunks)]).to("cuda")
    own = slice(int(layout.rows[1]), int(layout.rows[2]))  # the third time, a sequence with non-finite numbers
    outs = []
    for elsewhere, broken in ((0.0, False), (poison, False), (poison, True)):
        drawn = torch.Generator("cuda").manual_seed(1)
        sides = []
        for _ in range(2):
            side = torch.full((PAGES * PAGE, GROUPS, HEAD), elsewhere, dtype=dtype, device="cuda")
            side[written] = torch.randn((len(written), GROUPS, HEAD), generator=drawn, device="cuda").to(dtype)
            sides.append(side)
        rows = int(layout.rows[-1])
        fused = torch.randn((rows, HEADS + 2 * GROUPS, HEAD), generator=drawn, device="cuda").to(dtype)
        if broken:
            fused[own] = poison
        states = torch.split(fused, [HEADS, GROUPS, GROUPS], dim=1)
        outs.append(attend(path, dtype, [(sides[0], sides[1])], states, window))
    others = torch.ones(len(outs[0]), dtype=torch.bool)
    others[own] = False
    assert outs[0].isfinite().all()
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0][others], outs[2][others])
    assert not outs[2][~others].isfinite().any(), "a broken row must show"


@pytest.mark.parametrize("hostile", [0, 5])  # in the attention sites, and in the MLP's
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_that_overflows_changes_nobody_elses_captured_step(
    dtype: torch.dtype, hostile: int, tmp_path: Path
) -> None:
    make_tiny_llama(tmp_path)
    placement = gpu(dtype)
    model = load_model(tmp_path, dtype, device=placement.device)
    hidden = []
    for huge in (False, True):
        storage = make_cuda_storage(BASE, 8, 8, 32, placement)
        memory = KVMemory(model.config, 41, 4, dtype, placement.device)
        decode = make_cuda_decode(model, storage, memory, 64)
        fill(storage, hostile if huge else None)
        with torch.inference_mode():
            for step in range(8):
                # a hostile sequence in block 0, next to a row of the base and a row of another adapter
                rows = [
                    DecodeRow(33, step, (0, 1), hostile),
                    DecodeRow(7, step, (2, 3), None),
                    DecodeRow(9, step, (4, 5), 2),
                ]
                found = decode.forward(rows)
                assert found is not None
                broken = found[0].cpu()  # as in the engine: a step is read back before the next one is written
            # it has ended: its blocks, full of what it wrote, become other sequences' ends
            found = decode.forward([DecodeRow(7, 8, (2, 3, 0), None), DecodeRow(11, 0, (1,), 2)])
            assert found is not None
            hidden.append(found.clone())
        assert bool(broken.isfinite().all()) != huge
    assert hidden[0].isfinite().all()
    assert torch.equal(hidden[0], hidden[1])
