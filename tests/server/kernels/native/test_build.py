import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from headmix_server.kernels.native import build
from headmix_server.kernels.native.build import BuildError, build_library, default_cache_dir, find_compiler
from headmix_server.kernels.native.loading import load_library, load_native
from headmix_server.kernels.native.processor import LEVELS

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
X86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are those of x86-64")
V3 = LEVELS[-1]
HEADER = "torch/headeronly/macros/Macros.h"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "answer.h").write_text("constexpr int ANSWER = 42;\n")
    (folder / "answer.cpp").write_text('#include "answer.h"\nextern "C" int answer() { return ANSWER; }\n')
    (folder / "other.cpp").write_text('#include "answer.h"\nextern "C" int other() { return ANSWER + 1; }\n')
    return folder


@X86_64
def test_a_level_is_the_same_library_whatever_the_processor(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_library(sources, tmp_path / "cache", V3)
    monkeypatch.setattr(build, "processor_features", lambda: frozenset({"abacus"}))
    assert build_library(sources, tmp_path / "cache", V3) == built


@X86_64
def test_the_same_sources_in_another_folder_make_the_same_bytes(sources: Path, tmp_path: Path) -> None:
    (sources / "place.cpp").write_text(f'#include <{HEADER}>\nextern "C" const char* place() {{ return __FILE__; }}\n')
    copy = shutil.copytree(sources, tmp_path / "somewhere" / "else")
    first = build_library(sources, tmp_path / "cache", V3)
    second = build_library(copy, tmp_path / "other", V3)
    assert first != second
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()


def test_what_was_built_is_found_again_without_a_compiler(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_library(sources, tmp_path / "cache")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build_library(sources, tmp_path / "cache") == built


def test_a_changed_source_header_flag_processor_or_level_is_another_library(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    built = {build_library(sources, cache)}
    (sources / "answer.h").write_text("constexpr int ANSWER = 43;\n")
    built.add(build_library(sources, cache))
    (sources / "other.cpp").unlink()
    built.add(build_library(sources, cache))
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DOTHER"))
    built.add(build_library(sources, cache))
    monkeypatch.setattr(build, "processor_features", lambda: frozenset({"abacus"}))
    built.add(build_library(sources, cache))
    built.add(build_library(sources, cache, V3))
    assert len(built) == 6


def test_many_that_ask_at_once_get_one_build(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, runs = tmp_path / "compiler", tmp_path / "runs"
    compiler.write_text(f'#!/bin/sh\necho run >> {runs}\nexec {find_compiler()} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with ThreadPoolExecutor(4) as pool:
        built = set(pool.map(lambda _: build_library(sources, tmp_path / "cache"), range(4)))
    assert len(built) == 1
    assert len(runs.read_text().splitlines()) == 3  # two sources and the link


def test_a_file_in_the_cache_that_cannot_be_loaded_is_built_again(sources: Path, tmp_path: Path) -> None:
    built = build_library(sources, tmp_path / "cache")
    built.write_bytes(b"not a library")
    assert load_library(sources, tmp_path / "cache") == built
    assert built.read_bytes() != b"not a library"


def test_a_source_that_does_not_compile_is_an_error_with_the_compilers_words_and_leaves_nothing(
    sources: Path, tmp_path: Path
) -> None:
    (sources / "answer.cpp").write_text("int answer( { return 42; }\n")
    with pytest.raises(BuildError, match="expected"):
        build_library(sources, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != "build.lock"] == []


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(BuildError, match="cache"):
        build_library(sources, tmp_path / "cache")


def test_without_a_compiler_the_process_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("HEADMIX_CACHE", str(tmp_path))
    with capture_logs() as lines:
        assert load_native.__wrapped__() is False
    (line,) = lines
    assert (line["log_level"], "C++ compiler" in line["reason"]) == ("warning", True)


def test_the_library_is_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADMIX_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path / "native"


def test_the_native_operations_load_where_there_is_a_compiler() -> None:
    assert load_native()
    assert torch.ops.headmix.vector_lanes() in (4, 8, 16)
