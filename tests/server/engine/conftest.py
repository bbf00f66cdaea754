"""An engine for each test, and what it logs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from harness.engine.engines import LIMITS, Bench
from headmix_server.core.runner import Batch

MakeBench = Callable[..., Bench]


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    """Everything logged during the test."""
    with capture_logs() as events:
        yield events


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    """Make benches with limits given by name; closes them at the end."""
    benches: list[Bench] = []

    def make(token_range: range = range(1000), hold: Callable[[Batch], None] = lambda _: None, **limits: Any) -> Bench:
        benches.append(Bench(replace(LIMITS, **limits), token_range, hold))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def failing(times: int) -> tuple[list[int], object]:
    """Return a counter of failures left and a hook that raises while there are any."""
    left = [times]

    def hold(batch: Batch) -> None:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("the device hiccups")

    return left, hold
