"""The library built with the newest torch loads in the oldest torch that pyproject.toml allows."""

import re
from pathlib import Path

import pytest
from torch_abi_audit import inspect_extension

from headmix_server.kernels import native
from headmix_server.kernels.native.build import LOWEST_TORCH, build_library, default_cache_dir, find_compiler

PYPROJECT = Path(__file__).parents[4] / "pyproject.toml"


@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
def test_the_library_uses_nothing_that_the_lowest_torch_lacks() -> None:
    library = build_library(Path(native.__path__[0]), default_cache_dir())
    torch = inspect_extension(library).torch
    assert (torch.uses_torch, torch.stable, torch.unstable_symbols, torch.unknown_shim_symbols) == (True, True, (), ())
    assert torch.min_torch_version is not None
    needed = tuple(int(part) for part in torch.min_torch_version.split(".")[:2])
    assert needed <= LOWEST_TORCH


def test_the_lowest_torch_is_the_one_that_installers_are_told() -> None:
    (asked,) = re.findall(r'"torch>=([\d.]+)"', PYPROJECT.read_text(encoding="utf-8"))
    assert tuple(int(part) for part in asked.split(".")) == LOWEST_TORCH
