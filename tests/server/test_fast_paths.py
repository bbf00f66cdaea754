"""The server logs which path it takes: on a machine that supports the fast ones, it takes them.

Each fast path is compared with its slow reference elsewhere; here nothing is computed, since a fallback gives the same
answers and only the log shows the difference.
"""

import platform
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.bases.families import FAMILIES
from harness.server.running_server import RunningServer, running_server
from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.stored.bfloat16 import Unit, available_units
from headmix_server.kernels.stored.products import code_unit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or find_compiler() is None, reason="the fast paths need Linux and a C++ compiler"
    ),
]


def taken(server: RunningServer, name: str, field: str) -> object:
    """Return one field of the only event with this name."""
    (event,) = server.events(name)
    return event[field]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    FAMILIES["llama"].make(tmp_path / "llama", {"head_dim": 16, "intermediate_size": 64})  # whole blocks of weights
    return tmp_path / "llama"


def serve_and_stop(folder: Path, base: Path, env: Mapping[str, str] | None = None, **settings: Any) -> RunningServer:
    with running_server(
        folder, base=base, runner="torch", threads=1, kv_cache_mib=8, env=env or {}, **settings
    ) as server:
        pass
    return server


def test_with_a_compiler_every_kernel_is_native_and_memory_is_mapped(tmp_path: Path, base: Path) -> None:
    server = serve_and_stop(tmp_path, base)
    assert Path(str(taken(server, "native kernels", "library"))).is_file()
    assert taken(server, "attention", "by") == "native"
    assert taken(server, "sampling", "by") == "native"
    assert taken(server, "norms and activations", "by") == "native"
    assert taken(server, "adapter kernels", "kernels") == "native"
    assert taken(server, "memory reserved", "noreserve") is True
    assert taken(server, "weights", "kept") == "unpacked"  # it is float32
    refused = [event["reason"] for event in server.events("packed matmul unavailable, falling back to plain")]
    assert taken(server, "matrix products", "format") == ("plain" if refused else "packed")
    assert all(str(reason).startswith("they take") for reason in refused)  # only a busy machine is an excuse


def test_without_a_compiler_every_kernel_is_torchs_and_the_log_says_why(tmp_path: Path, base: Path) -> None:
    server = serve_and_stop(tmp_path, base, {"CXX": "no-such-compiler", "HEADMIX_CACHE": str(tmp_path / "cache")})
    (missing,) = server.events("native kernels unavailable, falling back to torch's own operations")
    assert "C++ compiler" in str(missing["reason"])
    assert taken(server, "attention", "by") == "torch"
    assert taken(server, "sampling", "by") == "torch"
    assert taken(server, "norms and activations", "by") == "torch"
    assert taken(server, "adapter kernels", "kernels") == "torch"


def test_a_base_of_16_bits_is_multiplied_as_it_is_stored(tmp_path: Path, base: Path) -> None:
    path = base / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    server = serve_and_stop(tmp_path, base)
    assert (taken(server, "weights", "kept"), taken(server, "weights", "kinds")) == ("stored", ["BF16"])
    assert taken(server, "matrix products", "format") == "stored"
    assert taken(server, "stored products", "codes") == code_unit().name
    by = "AMX" if Unit.AMX in available_units() else "FLOAT32"
    assert taken(server, "stored products", "bfloat16") == by
    assert taken(server, "decoder layers", "by") == "one native call"


def test_in_bfloat16_the_processor_multiplies_and_every_kernel_stays_native(tmp_path: Path, base: Path) -> None:
    server = serve_and_stop(tmp_path, base, dtype="bfloat16")
    for name, field in (("attention", "by"), ("sampling", "by"), ("norms and activations", "by")):
        assert taken(server, name, field) == "native"
    assert taken(server, "adapter kernels", "kernels") == "native"
    assert (taken(server, "weights", "kept"), taken(server, "matrix products", "format")) == ("bfloat16", "bfloat16")
    if server.events("bfloat16 products are slow"):  # only a busy machine is an excuse
        return
    widest = "AMX" if Unit.AMX in available_units() else "AVX512_BF16" if available_units() else "float32"
    assert taken(server, "bfloat16 products", "by") == widest
    assert taken(server, "decoder layers", "by") == (
        "torch, one operation at a time" if widest == "float32" else "one native call"
    )


def test_an_int8_base_is_multiplied_in_int8_and_its_inputs_are_quantised_natively(tmp_path: Path, base: Path) -> None:
    server = serve_and_stop(tmp_path, base, quantize="int8")
    assert taken(server, "matrix products", "format") == "int8"
    assert taken(server, "quantisation of activations", "by") == "native"
    by, reason = taken(server, "int8 products", "by"), str(taken(server, "int8 products", "reason"))
    assert by == "native" or reason.startswith(("they take", "the processor"))  # only a busy machine is an excuse
    assert (taken(server, "decoder layers", "by") == "one native call") == (by == "native")


def test_in_both_processes_the_garbage_collector_leaves_alone_what_the_start_made(tmp_path: Path, base: Path) -> None:
    server = serve_and_stop(tmp_path, base)
    exempt = {str(event["process"]): int(str(event["exempt"])) for event in server.events("garbage collection")}
    assert exempt.keys() == {"api", "engine"}
    assert min(exempt.values()) > 50_000


def test_http_and_the_database_run_on_their_compiled_parts(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        pass
    assert taken(server, "listening", "loop") == "uvloop"
    assert taken(server, "database", "compiled") is True
    assert taken(server, "database", "journal") == "wal"


def test_what_other_tests_are_skipped_without_is_installed() -> None:
    wanted = ["torchao"] + (["triton"] if platform.machine() == "x86_64" else [])
    assert [name for name in wanted if find_spec(name) is None] == []


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the processor's features are read from /proc/cpuinfo")
def test_vectors_are_as_wide_as_the_processors() -> None:
    words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    widest = 16 if "avx512f" in words else 8 if "avx" in words else 4
    assert load_native()
    assert torch.ops.headmix.vector_lanes() == widest
