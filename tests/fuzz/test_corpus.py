"""What fuzzing found or reached is checked again: the kept inputs of each target, and a few new ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from harness.fuzz.live_api import close_live_api
from harness.fuzz.targets.registry import MODULES, load_target

CORPUS = Path(__file__).parent / "corpus"


@pytest.fixture(scope="module", autouse=True)
def api() -> Iterator[None]:
    """Closes the API that some targets started."""
    yield
    close_live_api()


@pytest.mark.parametrize("name", MODULES)
def test_every_kept_input_is_answered_or_refused(name: str) -> None:
    kept = sorted((CORPUS / name).glob("*.bin"))
    assert kept, "nothing is kept: make fuzz, with --keep"
    target = load_target(name)
    for file in kept:
        assert target.check(file.read_bytes()), file.name


@pytest.mark.parametrize("name", MODULES)
def test_whatever_a_target_draws_is_answered_or_refused(name: str) -> None:
    target = load_target(name)
    quick = settings(
        max_examples=25,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    def check(data: bytes) -> None:
        assert target.check(data)

    quick(given(target.inputs)(check))()
