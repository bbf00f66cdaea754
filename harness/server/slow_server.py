"""`headmix serve` with an engine that is slow while a file exists, so that requests are still open when a test acts."""

import sys
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from headmix_server import cli
from headmix_server.app import server
from headmix_server.supervisor.supervisor import WORKER, Supervisor


def _slow(*arguments: Any, command: Sequence[str], **options: Any) -> Supervisor:
    worker = (sys.executable, "-m", "harness.server.slow_worker", *command[len(WORKER) :])
    return Supervisor(*arguments, command=worker, **options)


if __name__ == "__main__":
    with patch.object(server, "Supervisor", _slow):
        cli.main()
