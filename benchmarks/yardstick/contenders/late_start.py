"""Starts a contender's process in its first round, so that a failure to start is a result and does not end the run."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class LateStart(Generic[T]):
    """Starts something on first use; `stack` ends it. If it cannot start, every call fails."""

    def __init__(self, stack: ExitStack, start: Callable[[], AbstractContextManager[T]]) -> None:
        self._stack = stack
        self._start = start
        self._started: list[T] = []
        self._failure: Exception | None = None

    def get(self) -> T:
        """Return it, starting it if necessary."""
        if self._failure is not None:
            raise self._failure
        if not self._started:
            try:
                self._started.append(self._stack.enter_context(self._start()))
            except Exception as error:
                self._failure = error
                raise
        return self._started[0]
