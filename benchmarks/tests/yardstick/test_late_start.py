"""A contender's process starts when it is first needed, once, and its failure is the contender's own."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from benchmarks.yardstick.contenders.late_start import LateStart


def test_it_starts_once_when_it_is_needed_and_ends_with_the_stack() -> None:
    log: list[str] = []

    @contextmanager
    def start() -> Iterator[str]:
        log.append("started")
        yield "it"
        log.append("ended")

    with ExitStack() as stack:
        late = LateStart(stack, start)
        assert log == []
        assert (late.get(), late.get(), log) == ("it", "it", ["started"])
    assert log == ["started", "ended"]


def test_what_cannot_start_fails_each_time_without_another_try() -> None:
    tries: list[int] = []

    def start() -> AbstractContextManager[str]:
        tries.append(1)
        raise RuntimeError("not built")

    with ExitStack() as stack:
        late = LateStart(stack, start)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="not built"):
                late.get()
    assert tries == [1]
