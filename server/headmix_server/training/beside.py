"""The worker beside its server: `python -m headmix_server.training.beside`, started by it.

Standard input has the settings as one line of JSON, then what `control` reads; its end is the server's end.
"""

import os
import signal
import sys

from headmix_server.core.settings.settings import Settings
from headmix_server.training.control import Control, obey_server, read_line
from headmix_server.training.run import WorkerRun, run_worker

IDLE_SECONDS = 60.0
"""A worker without a job for so long ends; its server starts another when there is one."""

_NICENESS = 5


def main() -> int:
    """Work until there is no job, or the server stops or ends."""
    settings = Settings.model_validate_json(read_line(sys.stdin.fileno()))
    os.nice(_NICENESS)
    control = Control()
    # A terminal's Ctrl-C does not reach this process group; the server sends SIGTERM when it stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: control.stop())
    obey_server(control)
    return run_worker(settings, control, WorkerRun(beside_server=True, until_idle=IDLE_SECONDS))


if __name__ == "__main__":
    sys.exit(main())
