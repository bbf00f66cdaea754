"""The level that is chosen is one the processor has, and the sources ask for nothing that no level brings."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from headmix_server.kernels import native
from headmix_server.kernels.native import processor
from headmix_server.kernels.native.processor import LEVELS, best_library, processor_features

SOURCES = Path(native.__path__[0])
BEST, *_, LOWEST = LEVELS
STEPS = list(pairwise(LEVELS))
ASKED = re.compile(r"\b__((?:AVX|AMX|BMI|F16C|FMA|GFNI|LZCNT|SSE|VAES|VPCLMUL)\w*?)__\b")


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    for level in LEVELS:
        (tmp_path / level.library).touch()
    return tmp_path


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_a_processor_gets_the_library_of_its_level(libraries: Path, level: processor.Level) -> None:
    assert best_library(libraries, level.features | {"fpu", "amx_tile"}) == libraries / level.library


@pytest.mark.parametrize(("level", "below"), STEPS, ids=lambda level: level.name)
def test_a_processor_that_lacks_one_feature_of_a_level_gets_the_next(
    libraries: Path, level: processor.Level, below: processor.Level
) -> None:
    assert below.features < level.features
    for missing in level.features - below.features:
        assert best_library(libraries, level.features - {missing}) == libraries / below.library


@pytest.mark.parametrize("missing", sorted(LOWEST.features))
def test_a_processor_below_every_level_gets_none(libraries: Path, missing: str) -> None:
    assert best_library(libraries, BEST.features - {missing}) is None


def test_a_level_without_a_library_is_passed_over(libraries: Path) -> None:
    for level, below in STEPS:
        (libraries / level.library).unlink()
        assert best_library(libraries, BEST.features) == libraries / below.library
    (libraries / LOWEST.library).unlink()
    assert best_library(libraries, BEST.features) is None
    assert best_library(libraries / "missing", BEST.features) is None


def test_features_are_those_of_the_first_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nflags\t\t: fpu avx2\nvmx flags\t: vnmi\nprocessor\t: 1\nflags\t\t: fpu\n")
    monkeypatch.setattr(processor, "CPUINFO", listed)
    assert processor_features() == {"fpu", "avx2"}


def test_a_system_that_lists_no_features_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "missing")
    assert processor_features() == set()


def test_the_sources_ask_for_no_instructions_beyond_the_levels() -> None:
    """A library compiled ahead would go without them: add a level, and its features, for what fails here."""
    text = "".join(path.read_text(encoding="utf-8") for path in [*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")])
    asked = {plain(name) for name in ASKED.findall(text)}
    assert {"avx2", "avx512f", "avx512vnni"} <= asked
    assert asked <= {plain(name) for name in BEST.features} | {plain(flag.removeprefix("-m")) for flag in BEST.flags}


def test_amx_is_used_only_once_the_system_grants_it() -> None:
    """It is no feature of a level, so a processor without it may load the library."""
    asking = [path for path in SOURCES.glob("*.h") if "__AMX" in path.read_text(encoding="utf-8")]
    assert asking
    assert all("SYS_arch_prctl" in path.read_text(encoding="utf-8") for path in asking)


def plain(name: str) -> str:
    return re.sub(r"[_-]", "", name.lower())
