"""Nothing a test leaves behind holds up the run: waiting for its clean-up is bounded, and where it waits is shown."""

import faulthandler
from collections.abc import Iterator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

PATIENCE_SECONDS = 150.0
"""More than a test's own time limit, which ends its body but no thread that its clean-up waits for."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the tests' order, which pytest-randomly prints in its header only, and `-q` hides that."""
    seed = getattr(config.option, "randomly_seed", None)
    if isinstance(seed, int):
        order = f"random order; repeat it with --randomly-seed={seed}, switch it off with -p no:randomly"
        terminalreporter.write_line(order)


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
