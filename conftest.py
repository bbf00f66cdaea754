"""Nothing holds up the run, and no test changes another's log.

Temporary files are in memory, the garbage collector leaves the tests themselves alone, and waiting for a test's
clean-up is bounded, and where it waits is shown.
"""

import faulthandler
import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from _pytest.faulthandler import fault_handler_stderr_fd_key

PATIENCE_SECONDS = 150.0
"""More than a test's own time limit, which ends its body but no thread that its clean-up waits for."""

MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Several times what a run has in temporary files at once: those of a test that passed are removed after it."""


def pytest_configure(config: pytest.Config) -> None:
    """Have temporary files in memory, if there is room and no TMPDIR: tests write durably, which disks are slow at.

    The programs and workers that tests start inherit the choice.
    """
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the tests' order, which pytest-randomly prints in its header only, and `-q` hides that."""
    seed = getattr(config.option, "randomly_seed", None)
    if isinstance(seed, int):
        order = f"random order; repeat it with --randomly-seed={seed}, switch it off with -p no:randomly"
        terminalreporter.write_line(order)


def pytest_collection_finish() -> None:
    """Take all tests and what they imported out of the garbage collector's sight.

    They are a million objects that stay until the end; each full collection, such as transformers' after every
    training, would visit them again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Undo what a test changes of logging: an `LLM` quiets its process, a server's start sends the log elsewhere.

    Tests that read the log would miss lines, depending on which test ran before them.
    """
    root, package = logging.getLogger(), logging.getLogger("headmix_adapters")
    handlers, levels = list(root.handlers), (root.level, package.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    package.setLevel(levels[1])
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """End the process when a test's clean-up hangs; pytest-xdist reports the test and goes on in a new one."""
    # The standard error that pytest found at its start: what is written to today's is kept and never shown.
    shown = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True, file=shown)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
