"""Counts work instead of timing it: how many of headmix's instructions a piece of a test executes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Work:
    """`instructions` counts Python bytecode instructions."""

    def __init__(self) -> None:
        self.instructions = 0


@contextmanager
def counted(folder: str) -> Iterator[Work]:
    """Count what runs on this thread in files whose path contains `folder`, including coroutines."""
    work = Work()

    def count(frame: FrameType, event: str, arg: Any) -> Any:
        work.instructions += event == "opcode"
        return count

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        if folder not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return count

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield work
    finally:
        sys.settrace(before)
