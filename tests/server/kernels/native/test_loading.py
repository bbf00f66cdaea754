"""What was compiled ahead is loaded first; where it cannot be, the log says so and the kernels are compiled here."""

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headmix_server.kernels.native.build import build_library, find_compiler
from headmix_server.kernels.native.loading import load_ahead
from headmix_server.kernels.native.processor import LEVELS, best_library, processor_features

LEVEL = next((level for level in LEVELS if level.features <= processor_features()), None)
pytestmark = pytest.mark.skipif(LEVEL is None, reason="no level is this processor's")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Where this processor's library is looked for."""
    assert LEVEL is not None
    (tmp_path / "ahead").mkdir()
    return tmp_path / "ahead" / LEVEL.library


@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
def test_a_library_compiled_ahead_is_loaded_from_where_it_is(library: Path, tmp_path: Path) -> None:
    assert LEVEL is not None
    (tmp_path / "answer.cpp").write_text('extern "C" int ahead() { return 42; }\n')
    shutil.copy(build_library(tmp_path, tmp_path / "cache", LEVEL), library)
    with capture_logs() as lines:
        assert load_ahead(library.parent) == library
    assert lines == []


def test_one_that_this_system_refuses_is_passed_over_with_the_reason(library: Path) -> None:
    library.write_bytes(b"not a library")
    with capture_logs() as lines:
        assert load_ahead(library.parent) is None
    (line,) = lines
    assert (line["log_level"], library.name in line["reason"]) == ("warning", True)


def test_a_source_tree_has_none_and_says_nothing(tmp_path: Path) -> None:
    assert best_library(tmp_path / "ahead", processor_features()) is None
    with capture_logs() as lines:
        assert load_ahead(tmp_path / "ahead") is None
    assert lines == []
