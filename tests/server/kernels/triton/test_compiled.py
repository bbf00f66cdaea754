"""The kernels compile for GPUs with the arguments they are launched with; this needs no GPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from harness.adapters.artifacts import tiny_base_shape
from headmix_adapters.config import BaseShape
from headmix_server.core.types import SamplingParams
from headmix_server.kernels.adapters.row_tiles import tile_rows
from headmix_server.kernels.adapters.slot_span import SlotSpan
from headmix_server.kernels.sampling.plan import Choosing, plan_choices
from headmix_server.kernels.triton.needs import Launches
from tests.support.device.images import image_tables

pytestmark = pytest.mark.slow

triton = pytest.importorskip("triton", reason="Triton is not installed: its kernels are not compiled here")

BASE = tiny_base_shape(hidden_size=2048, num_heads=32, num_kv_heads=8, head_dim=64, num_layers=4)
BASE = msgspec.structs.replace(BASE, intermediate_size=8192)


class Recorder:
    """Stands in for a kernel: records its launch arguments."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.launches: list[tuple[tuple[int, ...], dict[str, Any]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*args: Any, **kwargs: Any) -> None:
            self.launches.append((grid, dict(zip(self.kernel.arg_names, args, strict=False)) | kwargs))

        return launch


def record_launches(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, slots: list[int], *, base: BaseShape = BASE
) -> dict[str, Recorder]:
    """Apply the adapters of a step with these slots' rows to one layer, with recorders in place of the kernels."""
    from headmix_server.kernels.triton import adapters as launching

    names = ("shrink", "shrink_heads", "expand_qkv", "expand")
    recorders = {name: Recorder(getattr(launching, name)) for name in names}
    for name, recorder in recorders.items():
        monkeypatch.setattr(launching, name, recorder)
    numbers = tile_rows([SlotSpan(slot, row, 1) for row, slot in enumerate(slots)], 16).pad(8, 32)
    tiles = numbers.on_device(torch.tensor(numbers.flat(), dtype=torch.int32))
    everything = Launches.every()
    bf16 = dtype is torch.bfloat16
    tables = replace(
        image_tables(base, 8, {}),
        f32=torch.zeros(0 if bf16 else 64),
        bf16=torch.zeros(64 if bf16 else 0, dtype=torch.bfloat16),
    )
    step = launching.TritonAdapters(tables, tiles, torch.zeros(32, 64), everything)

    def rows(width: int) -> torch.Tensor:
        return torch.zeros(32, width, dtype=dtype)

    step.add_qkv(1, rows(2048), rows(3072))
    step.add_o(1, rows(2048), rows(2048))
    step.add_gate_up(1, rows(2048), rows(16384))
    step.add_down(1, rows(8192), rows(2048))
    return recorders


def record_attention(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, size: int) -> Recorder:
    """Run attention with heads of this size on the smallest GPU, with a recorder in place of the kernel."""
    from headmix_server.kernels.triton import decode_attention as launching

    recorder = Recorder(launching._attend_part)
    monkeypatch.setattr(launching, "_attend_part", recorder)
    monkeypatch.setattr(launching, "_join_parts", Recorder(launching._join_parts))
    heads, groups, block, blocks = 32, 8, 16, 64
    cache = torch.zeros(block * blocks, groups, size, dtype=dtype)
    attention = launching.TritonDecodeAttention([(cache, cache)], block, 4, blocks)
    q, k, v = (torch.zeros(4, count, size, dtype=dtype) for count in (heads, groups, groups))
    attention.attend(0, q, k, v, scale=0.125, window=None)
    return recorder


def compile_launch(kernel: Any, arguments: dict[str, Any], arch: int) -> Any:
    """Compile a kernel as a launch with these arguments would."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import mangle_type

    constants = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
    signature = {name: "constexpr" if name in constants else mangle_type(arguments[name]) for name in kernel.arg_names}
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*")
    }
    source = ASTSource(kernel, signature, {name: arguments[name] for name in constants}, aligned)
    options = {name: arguments[name] for name in ("num_warps", "num_stages") if name in arguments}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


@pytest.mark.parametrize(("arch", "dtype"), [(80, torch.float32), (90, torch.bfloat16)])
def test_every_launch_compiles_to_tensor_cores_and_asynchronous_16_byte_reads(
    arch: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for name, recorder in record_launches(monkeypatch, dtype, [0, 1, 1]).items():
        _, arguments = recorder.launches[0]
        ptx = compile_launch(recorder.kernel, arguments, arch).asm["ptx"]
        assert "cp.async.cg.shared.global" in ptx, name  # the form that copies 16 bytes at a time
        assert ("mma.sync" in ptx) == (dtype is torch.bfloat16), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [64, 128, 256])
def test_decode_attention_fits_the_shared_memory_of_the_smallest_gpu(
    size: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    recorder = record_attention(monkeypatch, dtype, size)
    _, arguments = recorder.launches[0]
    assert compile_launch(recorder.kernel, arguments, 80).metadata.shared <= 99 * 1024


def test_adapter_kernels_of_the_largest_heads_fit_the_shared_memory_of_the_smallest_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    base = tiny_base_shape(hidden_size=2048, num_heads=8, num_kv_heads=2, head_dim=256, num_layers=4)
    base = msgspec.structs.replace(base, intermediate_size=8192)
    recorders = record_launches(monkeypatch, torch.float32, [0, 1, 1], base=base)
    for name in ("shrink_heads", "expand_qkv"):
        _, arguments = recorders[name].launches[0]
        assert compile_launch(recorders[name].kernel, arguments, 80).metadata.shared <= 99 * 1024, name


def test_what_is_launched_does_not_depend_on_which_adapters_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def launched(slots: list[int]) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
        with monkeypatch.context() as patch:
            recorders = record_launches(patch, torch.bfloat16, slots)
        every = [launch for recorder in recorders.values() for launch in recorder.launches]
        return [(grid, {n: v for n, v in args.items() if not isinstance(v, torch.Tensor)}) for grid, args in every]

    assert launched([0, 1, 2]) == launched([5]) == launched([3] * 20)


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("filters", [True, False])
def test_the_sampler_compiles_with_its_noise_in_double_and_its_words_in_32_bits(
    arch: int, filters: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from headmix_server.kernels.triton import sampling

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    recorder = Recorder(sampling._draw_kernel)
    monkeypatch.setattr(sampling, "_draw_kernel", recorder)
    params = SamplingParams(max_tokens=1, temperature=1.0, top_p=0.9 if filters else 1.0)
    plan = plan_choices([Choosing(params, 3)] * 2)
    sampling._draw(torch.zeros(2, 1000), plan)
    ((grid, arguments),) = recorder.launches
    assert grid == (2,)
    ptx = compile_launch(recorder.kernel, arguments, arch).asm["ptx"]
    assert "mul.hi.u32" in ptx
    assert "f64" in ptx
